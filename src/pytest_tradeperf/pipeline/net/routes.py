"""Chooses the way out for each request: direct, or through the proxy the environment names."""

import contextlib
import ssl
from importlib import import_module
from urllib.request import getproxies, proxy_bypass

# httpx2 loads it inside the first request otherwise, which would wait 100 ms for it.
import httpcore2  # noqa: F401
import httpx2

# So does httpcore2 with anyio's half for asyncio, which has no public name.
with contextlib.suppress(ImportError):
    import_module("anyio._backends._asyncio")


class RoutedTransport(httpx2.AsyncBaseTransport):
    """Opens connections on first use, one pool for each way out.

    httpx2 reads the environment's proxies only for transports it builds itself, and ours stands below a
    cache and a gate; so ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` are read here, on
    each request.

    Parameters
    ----------
    limits
        Bounds of each pool.
    trust_env
        False ignores proxies and certificates named in the environment.
    """

    def __init__(self, *, limits: httpx2.Limits, trust_env: bool) -> None:
        self._limits = limits
        self._trust_env = trust_env
        self._pools: dict[tuple[str | None, bool], httpx2.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send the request on its way."""
        proxy = self.proxy_for(request.url)
        encrypted = request.url.scheme == "https" or (proxy or "").startswith("https")
        key = (proxy, encrypted)
        if key not in self._pools:
            # Loading the system's certificates takes tens of milliseconds; plain HTTP needs none of them.
            verify: ssl.SSLContext | bool = True if encrypted else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._pools[key] = httpx2.AsyncHTTPTransport(
                verify=verify, trust_env=self._trust_env, limits=self._limits, proxy=proxy
            )
        return await self._pools[key].handle_async_request(request)

    def proxy_for(self, url: httpx2.URL) -> str | None:
        """Return the proxy the environment names for `url`, None for a direct way."""
        if not self._trust_env:
            return None
        proxies = getproxies()
        if not proxies or proxy_bypass(url.netloc.decode("ascii")):
            return None
        found = proxies.get(url.scheme) or proxies.get("all")
        return found if found is None or "://" in found else f"http://{found}"

    async def aclose(self) -> None:
        """Close every pool."""
        pools, self._pools = list(self._pools.values()), {}
        for pool in pools:
            await pool.aclose()
