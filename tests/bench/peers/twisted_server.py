"""The peer that all this is modelled on: Twisted with prometheus_client.

    python twisted_server.py 127.0.0.1:0 10000
    listening on http://127.0.0.1:41231/
"""

import sys
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.twisted import MetricsResource
from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Site


class Plaintext(Resource):
    isLeaf = True

    def render_GET(self, request):
        request.setHeader(b"Content-Type", b"text/plain")
        return b"Hello, World!"


class Counted(Resource):
    isLeaf = True

    def __init__(self, registry):
        super().__init__()
        self.requests = Counter(
            "http_requests",
            "Requests that were answered.",
            ["method", "endpoint"],
            registry=registry,
        )
        self.seconds = Histogram(
            "http_request_duration_seconds",
            "How long they took.",
            ["endpoint"],
            registry=registry,
        )

    def render_GET(self, request):
        start = time.perf_counter()
        self.requests.labels("GET", "/inc").inc()
        self.seconds.labels("/inc").observe(time.perf_counter() - start)
        request.setHeader(b"Content-Type", b"text/plain")
        return b"counted\n"


def add_series(registry, series):
    """As in src/serve.rs: counters and gauges with two labels, a hundred series to a family."""
    for first in range(0, series, 100):
        number = first // 100
        kind = Counter if number % 2 == 0 else Gauge
        family = kind(
            f"bench_family_{number}",
            "One of the many families of a large registry.",
            ["instance", "path"],
            registry=registry,
        )
        for one in range(first, min(first + 100, series)):
            child = family.labels("a-host.example:9100", f"/api/v1/things/{one}")
            child.inc(one * 1009) if kind is Counter else child.set(one * 0.37)


def main():
    host, port = sys.argv[1].rsplit(":", 1)
    series = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    registry = CollectorRegistry()
    add_series(registry, series)
    root = Resource()
    root.putChild(b"plaintext", Plaintext())
    root.putChild(b"inc", Counted(registry))
    root.putChild(b"metrics", MetricsResource(registry))
    port = reactor.listenTCP(int(port), Site(root), interface=host)
    address = port.getHost()
    print(f"listening on http://{address.host}:{address.port}/", flush=True)
    reactor.run()


main()
