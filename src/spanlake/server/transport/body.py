"""Receiving a request body within limits on size, time and shared memory. Knows nothing of what is in it."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from spanlake.model.errors import TooLarge, Unavailable
from spanlake.server.transport.budget import Reservation


async def receive_body(request: Request, reservation: Reservation, *, bytes_max: int, seconds_max: float) -> bytes:
    """The whole body as sent.

    Raises TooLarge as soon as the announced or the received size is over `bytes_max`, Unavailable after `seconds_max` (a slow network is
    worth another try), Overloaded from the reservation, and starlette's ClientDisconnect.
    """
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > bytes_max:
        raise TooLarge(f"the body has {announced[:20]} bytes, at most {bytes_max} are accepted")
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds_max):
            async for chunk in request.stream():
                size += len(chunk)
                if size > bytes_max:
                    raise TooLarge(f"the body is larger than {bytes_max} bytes")
                reservation.grow(len(chunk))
                chunks.append(chunk)
    except TimeoutError:
        raise Unavailable(f"the body did not arrive within {seconds_max:g} seconds, {size} bytes did") from None
    return b"".join(chunks)
