"""What all requests share: settings, store, target, background work."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from askmill.config.settings import Settings
from askmill.jobs.model.api_target import Target
from askmill.jobs.model.errors import UsageError
from askmill.jobs.store import Store
from askmill.jobs.store.views import StatusView
from askmill.web.background.accuracy import Accuracies
from askmill.web.background.live import LiveBatches
from askmill.web.background.workers import Workers
from askmill.web.http.options import Options
from askmill.web.uploads.drafts import Drafts


@dataclass
class Web:
    """The state of one server. `url` is Redis' address, `uploads` the folder of uploaded files.

    `target` is the API that is asked; None, with the reason in `refusal`, if nothing can be submitted.
    """

    settings: Settings
    options: Options
    store: Store
    url: str
    target: Target | None
    refusal: str
    uploads: Path
    drafts: Drafts = field(default_factory=Drafts)
    notes: dict[str, str] = field(default_factory=dict)
    """Sentences that the next page shows, by an id in its address."""
    fragments: dict[str, tuple[StatusView, bytes]] = field(default_factory=dict)
    """The newest rendering of a batch's progress."""
    accuracies: Accuracies = field(init=False)
    live: LiveBatches = field(init=False)
    workers: Workers = field(init=False)

    def __post_init__(self) -> None:
        self.accuracies = Accuracies(self.store)
        self.live = LiveBatches(self.status)
        self.workers = Workers(self.settings, self.store, self.target, self.options.functions)

    async def status(self, batch: str) -> StatusView:
        """Return a batch's progress, with its accuracy where it has expected answers. Raises NotFound."""
        return await self.accuracies.add(await self.store.status(batch))

    def require_target(self) -> Target:
        """Return the API to ask. Raises UsageError if there is none."""
        if self.target is None:
            raise UsageError(self.refusal)
        return self.target


def web_of(request: Request) -> Web:
    """Return the server's state."""
    web = request.app.state.web
    assert isinstance(web, Web)
    return web


Server = Annotated[Web, Depends(web_of)]
