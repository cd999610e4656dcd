"""The Hub: where the local cache has a data set, how large one is, and why the Hub refuses a name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pwff_core.errors import DataError

MAX_DOWNLOAD_BYTES = 2_000_000_000  # what is fetched into the cache; a larger data set is streamed, every time
FILES = ("*.json", "*.json.gz", "*.jsonl", "*.jsonl.gz", "*.csv", "*.csv.gz", "*.parquet", "README.md")
TYPES = ".json, .jsonl, .csv or .parquet"
INSTEAD = f"Give demo, a {TYPES} file, or a folder of such files"

Refusal = Literal["invalid name", "gated", "not found"]


def refusal(error: Exception) -> Refusal | None:
    """Why the Hub refuses a name, by the error of huggingface_hub; None for any other error, such as no network."""
    from huggingface_hub import errors

    if isinstance(error, errors.HFValidationError):
        return "invalid name"
    if isinstance(error, errors.GatedRepoError):  # a RepositoryNotFoundError too
        return "gated"
    return "not found" if isinstance(error, errors.RepositoryNotFoundError) else None


def dataset_folder(name: str, part: str, hub: Any = None) -> Path | None:
    """The folder of a data set in the Hub's local cache, fetched if it is not there; None if it is too large for that.

    DataError if there is no such data set, it is gated, or it is neither in the cache nor within reach.

    Args:
        name: the data set's Hub id.
        part: a folder in it that alone is fetched, if it is there; "" for all of it.
        hub: huggingface_hub, or what answers like it.
    """
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    hub = hub or huggingface_hub
    refusals: dict[Refusal, str] = {
        "invalid name": f"{name!r} is neither a file or folder here nor a Hub id. {INSTEAD}.",
        "gated": f"The data set {name!r} is gated: ask for access on its page and log in with `hf auth login`. "
        f"{INSTEAD}.",
        "not found": f"The Hub has no data set {name!r}, or not for you; check the name. {INSTEAD}.",
    }
    try:
        files = hub.HfApi().dataset_info(name, files_metadata=True).siblings or []
        part_files = [file for file in files if file.rfilename.startswith(f"{part}/")] if part else []
        if sum(file.size or 0 for file in part_files or files) > MAX_DOWNLOAD_BYTES:
            return None
        patterns = [f"{part}/{pattern}" for pattern in FILES] + ["README.md"] if part_files else list(FILES)
        return Path(hub.snapshot_download(name, repo_type="dataset", allow_patterns=patterns))
    except Exception as error:  # noqa: BLE001  each http client has its own for no network and HF_HUB_OFFLINE
        if reason := refusal(error):
            raise DataError(refusals[reason]) from None
    try:
        return Path(hub.snapshot_download(name, repo_type="dataset", local_files_only=True))
    except LocalEntryNotFoundError:
        raise DataError(
            f"The data source {name!r} is neither a file or folder here nor a data set in the Hub's local cache, "
            f"and it could not be fetched. {INSTEAD}, or check the name and the network."
        ) from None
