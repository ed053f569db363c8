"""One command a file, and what they share: `options`, `models`, `streams`, `progress`, `interrupt`, `answer`, `table`.

These modules are imported whenever `mogemma` starts, be it for --help. So they take what is heavy (numpy, the kernels) from
the package when they run: `mogemma.SyncGemmaModel`, which is imported when it is first used.
"""
