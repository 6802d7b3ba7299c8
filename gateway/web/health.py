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


async def readyz(ready: Callable[[], str], _: Request) -> Response:
    """200 when instances can be stored now, `degraded` saying what is out of order all the same; else Unavailable or
    Exhausted (503) says what is wrong.
    """
    degraded = await delivery.in_thread(ready)
    answer: dict[str, object] = {"ready": True}
    if degraded:
        answer["degraded"] = degraded
    return Response(orjson.dumps(answer), headers={"cache-control": "no-store"}, media_type=media.JSON)


async def figures(metrics_text: Callable[[], bytes], _: Request) -> Response:
    """The metrics in the text form of Prometheus."""
    text = await delivery.in_thread(metrics_text)
    return Response(text, headers={"cache-control": "no-store", "content-type": metrics.CONTENT_TYPE})
