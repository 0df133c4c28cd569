"""The admin port: metrics, liveness, readiness."""

from collections.abc import Callable

from aiohttp import web

from tidings.metrics import Metrics

__all__ = ["serve_admin"]


async def serve_admin(
    host: str, port: int, metrics: Metrics, not_ready: Callable[[], str | None], *, reuse_port: bool = False
) -> tuple[web.AppRunner, int]:
    """Start answering `/metrics`, `/healthz` and `/readyz`.

    Args:
        not_ready: Why the node is not ready, or None if it is.
    Returns:
        What to `cleanup()` at the end, and the port listened on.
    Raises:
        OSError: The port is taken.
    """

    async def answer_metrics(request: web.Request) -> web.Response:
        body, content_type = await metrics.exposition(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def answer_health(_: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def answer_ready(_: web.Request) -> web.Response:
        reason = not_ready()
        if reason is None:
            return web.json_response({"status": "ready"})
        return web.json_response({"status": "not_ready", "reason": reason}, status=503)

    app = web.Application()
    app.add_routes(
        [
            web.get("/metrics", answer_metrics),
            web.get("/healthz", answer_health),
            web.get("/readyz", answer_ready),
        ]
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, reuse_port=reuse_port or None)
        await site.start()
    except BaseException:
        await runner.cleanup()
        raise
    return runner, int(runner.addresses[0][1])
