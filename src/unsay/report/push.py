"""A run's checkpoint on the Hugging Face hub: the model that was judged, with its card, and nothing of the run beside it."""

import logging

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OfflineModeIsEnabled

from unsay.config import ConfigError
from unsay.report.gate import judge, said
from unsay.store.folder import RunFolder


def push(folder: RunFolder, repository: str, public: bool = False, failed: bool = False) -> str:
    """Upload the checkpoint, and return the address of its commit.

    `repository`: `owner/name`, which is made if it is not there, private unless `public`. `failed`: upload even what misses its
    policy; its card says so. The token is huggingface_hub's (`hf auth login`, or HF_TOKEN). Raises `ConfigError` where the model is
    not the one that was audited, where it misses its policy, or where the hub refuses.
    """
    verdict = judge(folder)
    if not verdict.passed and not failed:
        missed = "; ".join(said(line) for line in verdict.failed[:3])
        raise ConfigError(f"{len(verdict.failed)} lines of policy {verdict.name} failed ({missed}); --failed uploads it all the same")
    if not (folder.checkpoint / "README.md").is_file():
        raise ConfigError(f"the checkpoint has no card; write it first: unsay report {folder.path}")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    api = HfApi(library_name="unsay")
    try:
        api.create_repo(repository, private=not public, exist_ok=True)
        done = api.upload_folder(repo_id=repository, folder_path=folder.checkpoint, commit_message="Model after unlearning, with its card")
    except (HFValidationError, LocalTokenNotFoundError) as error:
        raise ConfigError(f"{repository}: {error}") from None
    except HfHubHTTPError as error:
        code = error.response.status_code
        raise ConfigError(f"the hub refuses {repository} ({code}): are you logged in, and may you write there?") from None
    except Exception as error:
        if not _network(error):
            raise
        raise ConfigError(f"the hub cannot be reached ({type(error).__name__}); try again, or see HF_HUB_OFFLINE and HF_ENDPOINT") from None
    return str(done.commit_url)


def _network(error: Exception) -> bool:
    # Which package carries the client's requests, and so whose error this is, differs between versions of huggingface_hub.
    return isinstance(error, OfflineModeIsEnabled) or "TransportError" in {kind.__name__ for kind in type(error).__mro__}
