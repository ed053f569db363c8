"""From a name to files on this machine: the known models, the hub's cache, and the download.

    name ── source.py ──> HubSource ── cache.py ──> files that are here
                                   └── pull.py ──> client.py ══ huggingface_hub ══ the hub

`locate` is what a model calls with the name that it was given. huggingface-hub (the extra `hub`) keeps the cache, sends the
requests and resumes what is cut; it is imported when it is needed.
"""
