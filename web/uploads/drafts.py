"""Uploads between the page that takes the file and the click on Submit. Each has a folder of its own."""

import secrets
import shutil
import time
from pathlib import Path

from askmill.jobs.model.errors import NotFound
from askmill.web.uploads.forms import Form

LIFETIME_S = 7200.0
MAX_DRAFTS = 50
"""More people than that do not upload at a time: the oldest draft goes."""
LEFT_BEHIND_S = 86_400.0


class Drafts:
    """Uploaded files that are not submitted yet, by an id that cannot be guessed."""

    def __init__(self) -> None:
        self._drafts: dict[str, tuple[float, Form]] = {}

    def add(self, form: Form) -> str:
        """Keep the form and return its id."""
        now = time.monotonic()
        for draft, (since, _) in list(self._drafts.items()):
            if now - since > LIFETIME_S or len(self._drafts) >= MAX_DRAFTS:
                self.discard(draft)
        draft = secrets.token_urlsafe(12)
        self._drafts[draft] = (now, form)
        return draft

    def get(self, draft: str) -> Form:
        """Return the form. Raises NotFound."""
        if draft not in self._drafts:
            raise NotFound("This upload is no longer here. Choose the file again.")
        return self._drafts[draft][1]

    def discard(self, draft: str) -> None:
        """Delete the upload."""
        _, form = self._drafts.pop(draft)
        form.discard()


def delete_left_behind(uploads: Path) -> None:
    """Delete uploads of servers that were killed."""
    for folder in uploads.iterdir():
        if time.time() - folder.stat().st_mtime > LEFT_BEHIND_S:
            shutil.rmtree(folder, ignore_errors=True)
