"""Every exception mogemma raises, in one tree.

    MogemmaError
    ├── ModelNotFoundError      (FileNotFoundError)  there is no such file, folder or model
    ├── DownloadError           (OSError)            a model could not be brought here: connection, disk, digest
    │   └── ModelAccessError    (PermissionError)    the hub gives it only to who has accepted a licence, or has a token
    ├── ModelFormatError        (ValueError)         a model file is damaged or breaks its format
    ├── UnsupportedModelError   (ValueError)         a sound file, but not a model this version runs
    ├── TokenizerError          (ValueError)         text that cannot become tokens, or no tokenizer to do it
    ├── PromptError             (ValueError)         messages that the model's turn format cannot hold
    ├── ConfigError             (ValueError)         an option or argument outside its range
    ├── ContextFullError        (ValueError)         more tokens than the context holds
    ├── OutOfMemoryError        (MemoryError)        the machine cannot give the memory asked for
    ├── ModelClosedError        (RuntimeError)       a model used after close(), or in a forked child
    ├── CancelledError          (RuntimeError)       a running call that was told to stop
    └── KernelError             (RuntimeError)       the kernel library is missing, or refused a call

Each says in its message what happened and what to do about it. Those that are by nature one of Python's own errors derive
from that too, so that `except FileNotFoundError` works as a reader expects.
"""

from __future__ import annotations


class MogemmaError(Exception):
    """Base of every error that mogemma raises on purpose."""


class ModelNotFoundError(MogemmaError, FileNotFoundError):
    """There is no file, folder or known model of that name."""


class DownloadError(MogemmaError, OSError):
    """A model could not be brought to this machine; what was here before is as it was."""


class ModelAccessError(DownloadError, PermissionError):
    """The hub gives the model only to who has accepted its licence, or may read it; the message says how to get there."""


class ModelFormatError(MogemmaError, ValueError):
    """A model file is truncated, damaged or breaks its own format; the message names the file and the field."""


class UnsupportedModelError(MogemmaError, ValueError):
    """The file is sound but holds an architecture, a tensor type or a layout that this version does not run."""


class TokenizerError(MogemmaError, ValueError):
    """Text that cannot be encoded, ids that cannot be decoded, or a checkpoint that carries no tokenizer."""


class PromptError(MogemmaError, ValueError):
    """Messages that cannot be written in the model's turn format."""


class ConfigError(MogemmaError, ValueError):
    """An option or argument is outside its range; the message names it, its value and the range."""


class ContextFullError(MogemmaError, ValueError):
    """The tokens do not fit the context; the message has both numbers and nothing was cut."""


class OutOfMemoryError(MogemmaError, MemoryError):
    """The machine cannot give the memory asked for; the message has the size and what would need less."""


class ModelClosedError(MogemmaError, RuntimeError):
    """The model was closed, or it was loaded before a fork and used in the child."""


class CancelledError(MogemmaError, RuntimeError):
    """A running call was told to stop by another thread; the model stays usable."""


class KernelError(MogemmaError, RuntimeError):
    """The kernel library is missing, does not fit this package, or refused a call."""
