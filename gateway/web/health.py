"""For whoever watches the gateway: is it alive, can it do its work, what has it done."""

from collections.abc import Callable

import orjson
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from gateway import metrics
from gateway.web import delivery, media


async def healthz(_: Request) -> Response:
    """200 as long as the process answers at all."""
    return PlainTextResponse("ok\n", headers={"cache-control": "no-store"})


async def readyz(ready: Callable[[], None], _: Request) -> Response:
    """200 when instances can be stored and read now; else Unavailable or Exhausted (503) says what is wrong."""
    await delivery.in_thread(ready)
    return Response(orjson.dumps({"ready": True}), headers={"cache-control": "no-store"}, media_type=media.JSON)


async def figures(metrics_text: Callable[[], bytes], _: Request) -> Response:
    """The metrics in the text form of Prometheus."""
    text = await delivery.in_thread(metrics_text)
    return Response(text, headers={"cache-control": "no-store", "content-type": metrics.CONTENT_TYPE})
