"""The images of a batch of chat completions: stored once in Redis, because a call carries them in its body.

The other APIs take uploads. Workers may run on other machines, so a path is of no use to them.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from pathlib import Path

from askmill.jobs.model.errors import UsageError
from askmill.jobs.model.file_rules import image_type
from askmill.jobs.model.profile import IMAGE, Profile, Resources, profile_image
from askmill.jobs.store import Store

MAX_IMAGES_BYTES = 500_000_000
"""Of all images of a batch together: Redis holds them in memory."""


def profile_images(profile: Profile) -> dict[str, Path]:
    """The images that every row carries (`--file`), by the name under which a question names them."""
    paths = (Path(path).expanduser() for path in profile.files)
    return {profile_image(number): path for number, path in enumerate(paths)}


async def store_images(store: Store, batch: str, images: Mapping[str, Path]) -> Resources:
    """Store images; returns their ids, `TYPE;SHA256`, by name: the path as a row has it, or `profile_image`.

    Raises:
        UsageError: they are too large together, or one cannot be read.
        LeaseLost: another command loads the batch by now.
    """
    ids, stored_bytes = dict[str, str](), 0
    for name, path in images.items():
        try:
            content = await asyncio.to_thread(path.read_bytes)
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror or error}.") from None
        sha256 = hashlib.sha256(content).hexdigest()
        id_ = f"{image_type(content) or 'application/octet-stream'};{sha256}"
        if id_ not in ids.values():
            stored_bytes += len(content)
            if stored_bytes > MAX_IMAGES_BYTES:
                raise UsageError(
                    f"The images have more than {MAX_IMAGES_BYTES // 1_000_000} MB together, which Redis "
                    "would hold in memory. Name them by URL, or split the file."
                )
            await store.store_image(batch, sha256, content)
        ids[f"{IMAGE}{name}"] = id_
    resources = Resources(row_files=ids)
    await store.set_resources(batch, resources)
    return resources
