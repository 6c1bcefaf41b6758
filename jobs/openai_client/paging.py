"""Lists of the API through the SDK, page by page, which end although a server repeats a page."""

from collections.abc import AsyncIterator
from typing import Any, TypeVar

from openai import OpenAIError
from openai.pagination import AsyncConversationCursorPage, AsyncCursorPage

from askmill.jobs.openai_client.reply_limits import MAX_LIST_OBJECTS

T = TypeVar("T")


async def all_objects(
    page: AsyncCursorPage[T] | AsyncConversationCursorPage[T], limit: int = MAX_LIST_OBJECTS
) -> AsyncIterator[T]:
    """All objects of a list, from its first page on.

    Raises:
        OpenAIError: The list has more than `limit` objects.
    """
    following: Any = page
    cursors, count = set[str](), 0
    while True:
        for entry in following.data or ():
            count += 1
            if count > limit:
                raise OpenAIError(f"the list has more than {limit:,} objects (MAX_LIST_OBJECTS)")
            yield entry
        info = following.next_page_info() if following.has_next_page() else None
        cursor = repr(info and info.params)
        if info is None or cursor in cursors:
            return
        cursors.add(cursor)
        following = await following.get_next_page()
