"""Every failure of the Hub, of the network or of the user in one line, with its remedy."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import httpx

from hf_radam.errors import NetworkError
from hf_radam.experiments.report.escape import one_line
from hf_radam.experiments.schema import UserError

_AGAIN = "the same command completes the job"


@contextmanager
def explained(repo_id: str) -> Iterator[None]:
    """Turn what the client raises into one line: the fault, and the remedy.

    Raises:
        UserError: the user's fault.
        NetworkError: the network's or the Hub's.
    """
    try:
        yield
    except LocalTokenNotFoundError as error:
        raise UserError("no access token: run `hf auth login`, or set HF_TOKEN to a token with write access") from error
    except OfflineModeIsEnabled as error:
        raise UserError("offline mode is on: unset HF_HUB_OFFLINE to upload") from error
    except HfHubHTTPError as error:
        raise _of_status(error, repo_id) from error
    except httpx.TimeoutException as error:
        raise NetworkError(
            f"{constants.ENDPOINT} did not answer in time; {_AGAIN}, or give a longer --timeout"
        ) from error
    except httpx.HTTPError as error:
        raise NetworkError(
            f"{constants.ENDPOINT} cannot be reached ({one_line(str(error))}); {_AGAIN} later"
        ) from error
    except json.JSONDecodeError as error:  # the client reads the answer before it looks at the status
        raise NetworkError(f"{constants.ENDPOINT} answered with something else than JSON; {_AGAIN} later") from error
    except KeyError as error:  # such as a proxy's own answer
        raise NetworkError(
            f"{constants.ENDPOINT} answered without {error}, not as the Hub does; {_AGAIN} later"
        ) from error
    except ValueError as error:
        raise UserError(f"the Hub refuses this: {one_line(str(error))}") from error
    except (RuntimeError, ConnectionError, TimeoutError) as error:  # of hf_xet, or of the threads that upload
        if re.search(r"\b40[13]\b", str(error.__cause__ or error)):
            raise UserError(f"this access token may not upload to {repo_id}: use one with write access") from error
        raise NetworkError(f"the upload broke off ({one_line(str(error.__cause__ or error))}); {_AGAIN}") from error


def _of_status(error: HfHubHTTPError, repo_id: str) -> Exception:
    status = error.response.status_code
    said = one_line(error.server_message or error.response.reason_phrase)
    if status == 401:
        return UserError("the Hub does not know this access token: run `hf auth login --force`, or set HF_TOKEN anew")
    if status in (402, 403):
        return UserError(
            f"this access token may not write to {repo_id} ({said}): use a namespace of yours, or a token with "
            "write access to it"
        )
    if status == 404:
        return UserError(f"not found on the Hub ({said}): check --repo_id, --revision and --collection")
    if status in (409, 412):
        return NetworkError(f"somebody else changed {repo_id} at the same time ({said}); {_AGAIN}")
    if status == 429:
        wait = error.response.headers.get("Retry-After")
        return NetworkError(f"the Hub limits how much one may send; {_AGAIN} " + (f"in {wait} s" if wait else "later"))
    if status == 408 or status >= 500:
        return NetworkError(f"the Hub has trouble ({status} {said}); {_AGAIN} later")
    return UserError(f"the Hub refuses this ({status}): {said}")
