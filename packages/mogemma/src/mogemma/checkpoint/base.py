"""What both kinds of checkpoint are to the rest of the library: tensors by name, and what is said about them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from ..errors import ModelClosedError, ModelFormatError, ModelNotFoundError, UnsupportedModelError
from .bounded_json import read_json_file
from .files import MappedFile, close_all, is_file, is_folder
from .names import plain_name, quote

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

    from .tensor import Tensor


class Checkpoint:
    """An open model: its tensors lie in mapped files until `close()`, or the end of a `with` block.

    Attributes:
        path: File or folder, as it was given.
        kind: Format of the tensors.
        metadata: GGUF's keys and values, arrays as numpy arrays or `StringArray`; or the `__metadata__` of safetensors.
        config: config.json of a safetensors model; empty for GGUF, which says the same in `metadata`.
        tensors: By name, in the order of the file. Only types that the library can run; see `tensor`.
        files: The mapped files.
        submodules: Checkpoints in folders of this one that were opened.
    """

    def __init__(
        self,
        path: Path,
        kind: Literal["gguf", "safetensors"],
        *,
        mapped: list[MappedFile],
        tensors: Mapping[str, Tensor],
        metadata: Mapping[str, Any],
        config: Mapping[str, Any] | None = None,
        folder: Path | None = None,
        foreign: Mapping[str, str] | None = None,
    ) -> None:
        """Take over `mapped`, which `close` will close.

        `folder` is where side files lie, None when there are none (a lone GGUF file). `foreign` are the tensors of a
        type that the library does not run, with the name of that type.
        """
        self.path = path
        self.kind: Literal["gguf", "safetensors"] = kind
        self.metadata = metadata
        self.config: Mapping[str, Any] = {} if config is None else config
        self.tensors = tensors
        self.files = tuple(file.path for file in mapped)
        self._mapped = mapped
        self._folder = folder
        self._foreign: Mapping[str, str] = foreign or {}
        self.submodules: list[Checkpoint] = []
        self._parts: list[Tensor] = []
        self._is_open = True

    @property
    def n_bytes(self) -> int:
        """Size of all mapped files, those of the submodules among them."""
        return sum(file.n_bytes for file in self._mapped) + sum(submodule.n_bytes for submodule in self.submodules)

    def tensor(self, name: str, *, shape: tuple[int, ...] | None = None) -> Tensor:
        """The tensor of that name, which must have that `shape` if one is given.

        Raises:
            ModelFormatError: It is missing, or has another shape.
            UnsupportedModelError: It is there in a type that the library does not run.
            ModelClosedError: The checkpoint is closed.
        """
        self._check_open()
        tensor = self.tensors.get(name)
        if tensor is None:
            if name in self._foreign:
                raise UnsupportedModelError(
                    f"{self.path}: tensor {quote(name)} is stored as {quote(self._foreign[name])}; safetensors are read "
                    "as F32, F16 or BF16. Use the original checkpoint, or a GGUF file for quantised weights."
                )
            raise ModelFormatError(
                f"{self.path} has no tensor {quote(name)} among its {len(self.tensors)}. It is incomplete, or not the "
                "model that its configuration describes."
            )
        if shape is not None and tensor.shape != shape:
            raise ModelFormatError(
                f"{tensor.source}: tensor {quote(name)} has shape {tensor.shape}, the configuration asks for {shape}. "
                "Configuration and weights belong to different models."
            )
        return tensor

    def rows(self, tensor: Tensor, first: int, n: int) -> Tensor:
        """Some rows of a tensor of three dimensions, which has many matrices one after another, as a matrix."""
        n_columns = tensor.shape[-1]
        row_bytes = tensor.type.n_bytes(n_columns)
        data = tensor.data[first * row_bytes : (first + n) * row_bytes]
        part = replace(tensor, shape=(n, n_columns), data=data)
        self._parts.append(part)
        return part

    def side_file(self, name: str, *, folder: str = "") -> Path | None:
        """Path of a file beside the tensors, such as tokenizer.json; None when there is none.

        `name` has no folders in it; `folder` is one beside the tensors, such as 1_Pooling.
        """
        if self._folder is None:
            return None
        parent = self._folder / plain_name(folder, self._folder) if folder else self._folder
        path = parent / plain_name(name, parent)
        return path if is_file(path) else None

    def read_json(self, name: str, *, folder: str = "") -> object:
        """Content of a JSON file beside the tensors (an object, or a list as in modules.json); None when there is none.

        Raises:
            ModelFormatError: It is no JSON, or larger than such a file is.
        """
        path = self.side_file(name, folder=folder)
        return None if path is None else read_json_file(path)

    def folder(self, name: str) -> Path:
        """Path of a folder inside this one, such as sentence-transformers' 2_Dense.

        Raises:
            ModelFormatError: `name` is not the plain name of a folder in here.
            ModelNotFoundError: There is no such folder.
        """
        self._check_open()
        if self._folder is None:
            raise ModelNotFoundError(
                f"{self.path} is a single file and has no folder {quote(name)} beside its tensors."
            )
        folder = self._folder / plain_name(name, self._folder)
        if not is_folder(folder):
            raise ModelNotFoundError(
                f"{self._folder} has no folder {quote(name)}: the model is incomplete. Download it again."
            )
        if folder.resolve().parent != self._folder.resolve():
            raise ModelFormatError(f"{folder} is a link out of the model's folder. Put the real folder there.")
        return folder

    def adopt(self, submodule: Checkpoint) -> None:
        """Close another checkpoint together with this one, and count its tensors to this one's."""
        self.submodules.append(submodule)

    def forget(self) -> None:
        """Give back the memory of what was read so far; nothing is lost, for the files are still mapped."""
        for file in self._mapped:
            file.forget()

    def close(self) -> None:
        """Unmap the files. Tensors and arrays of strings are unusable from then on; closing twice is harmless.

        A file of which somebody holds a view (a buffer or an array made from `Tensor.data`) stays mapped until that
        view is gone; a ResourceWarning says so.
        """
        if not self._is_open:
            return
        self._is_open = False
        for submodule in self.submodules:
            submodule.close()
        for tensor in (*self.tensors.values(), *self._parts):
            with suppress(BufferError):  # a buffer made from it is in use: close_all will say so
                tensor.data.release()
        close_all(self._mapped)

    def _check_open(self) -> None:
        if not self._is_open:
            raise ModelClosedError(f"{self.path} was closed. Open the model again.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{self.kind} checkpoint {str(self.path)!r}: {len(self.tensors)} tensors, {self.n_bytes} bytes>"
