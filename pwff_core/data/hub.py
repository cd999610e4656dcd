"""Data sets of the Hub: where the local cache has them, or how large they are."""

from __future__ import annotations

from pathlib import Path

from pwff_core.errors import DataError

LARGEST_DOWNLOAD = 2_000_000_000  # bytes that are fetched into the cache; a larger data set is streamed, every time
FILES = ("*.json", "*.json.gz", "*.jsonl", "*.jsonl.gz", "*.csv", "*.csv.gz", "*.parquet", "README.md")
TYPES = ".json, .jsonl, .csv or .parquet"
INSTEAD = f"Give demo, a {TYPES} file, or a folder of such files"


def dataset_folder(name: str, part: str) -> Path | None:
    """The folder of a Hub data set in the local cache, fetched if it is not there; None where it is too large for that.

    Of a data set with a folder `part`, that folder alone is fetched. DataError if there is no such data set, it is
    gated, or it is neither in the cache nor within reach.
    """
    import huggingface_hub as hub
    from huggingface_hub import errors

    try:
        files = hub.HfApi().dataset_info(name, files_metadata=True).siblings or []
        inside = [file for file in files if file.rfilename.startswith(f"{part}/")] if part else []
        if sum(file.size or 0 for file in inside or files) > LARGEST_DOWNLOAD:
            return None
        wanted = [f"{part}/{pattern}" for pattern in FILES] + ["README.md"] if inside else list(FILES)
        return Path(hub.snapshot_download(name, repo_type="dataset", allow_patterns=wanted))
    except errors.HFValidationError:
        raise DataError(f"{name!r} is neither a file or folder here nor a Hub id. {INSTEAD}.") from None
    except errors.GatedRepoError:
        raise DataError(
            f"The data set {name!r} is gated: ask for access on its page and log in with `hf auth login`. {INSTEAD}."
        ) from None
    except errors.RepositoryNotFoundError:
        raise DataError(f"The Hub has no data set {name!r}, or not for you; check the name. {INSTEAD}.") from None
    except Exception:  # noqa: BLE001  no network, as whichever http client says it, or HF_HUB_OFFLINE: the cache will do
        try:
            return Path(hub.snapshot_download(name, repo_type="dataset", local_files_only=True))
        except errors.LocalEntryNotFoundError:
            raise DataError(
                f"The data source {name!r} is neither a file or folder here nor a data set in the Hub's local cache, "
                f"and it could not be fetched. {INSTEAD}, or check the name and the network."
            ) from None
