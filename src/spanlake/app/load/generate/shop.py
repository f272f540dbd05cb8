"""The imagined shop whose traces are sent: its services, endpoints, databases, queues and what goes wrong in them.

Data only; `simulate` walks it. A text may hold *slots*, runs of control characters over which every payload writes fresh digits
(`pieces` finds them): USER_SLOT one of a hundred users, TRACE_SLOT a number shared by the whole trace, SPAN_SLOT a number of the span.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

USER_SLOT = "\x01\x01"
TRACE_SLOT = "\x02\x02\x02\x02"
SPAN_SLOT = "\x03\x03\x03\x03"

USER = f"user-{USER_SLOT}"
ITEM = f"1{TRACE_SLOT}"
ROW = f"4{SPAN_SLOT}"


@dataclass(frozen=True, slots=True)
class Service:
    """A program of the shop; `pods` instances of it run side by side, the last one with the next version."""

    language: str
    version: str
    next_version: str
    pods: int
    server_library: str


@dataclass(frozen=True, slots=True)
class Database:
    """A server that answers queries, and the library that the callers use for it."""

    system: str
    namespace: str
    address: str
    port: int
    library: str


@dataclass(frozen=True, slots=True)
class Query:
    """A statement sent to a database, `times[0]` to `times[1]` times one after the other."""

    database: str
    operation: str
    target: str
    text: str
    median_ms: float
    times: tuple[int, int] = (1, 1)
    chance: float = 1.0


@dataclass(frozen=True, slots=True)
class Remote:
    """A call of another service's endpoint; `together` calls run side by side, not one after the other."""

    endpoint: str
    times: tuple[int, int] = (1, 1)
    chance: float = 1.0
    together: bool = False


@dataclass(frozen=True, slots=True)
class Publish:
    """A message put on a queue; every consumer of the queue handles it later, in the same trace."""

    queue: str
    chance: float = 1.0


@dataclass(frozen=True, slots=True)
class Work:
    """An internal span: computing, rendering, serializing."""

    name: str
    median_ms: float
    chance: float = 1.0


Step: TypeAlias = Query | Remote | Publish | Work


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a service does for a request. `method` is the HTTP method; an empty one makes `route` the name of a gRPC method."""

    service: str
    method: str
    route: str
    path: str
    median_ms: float
    steps: tuple[Step, ...]
    failure_chance: float = 0.01


@dataclass(frozen=True, slots=True)
class Consumer:
    """What a service does with a message of a queue."""

    service: str
    steps: tuple[Step, ...]
    median_ms: float
    failure_chance: float = 0.004


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception that a service may raise: its class, its message and the function that raises it."""

    kind: str
    message: str
    function: str


SERVICES = {
    "gateway": Service("go", "2.14.0", "2.15.0-rc.1", 3, "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"),
    "frontend": Service("nodejs", "5.2.1", "5.3.0", 3, "@opentelemetry/instrumentation-http"),
    "auth": Service("java", "1.9.4", "1.10.0", 2, "io.opentelemetry.tomcat-10.0"),
    "catalog": Service("python", "3.0.7", "3.1.0", 3, "opentelemetry.instrumentation.fastapi"),
    "search": Service("java", "4.4.2", "4.5.0", 2, "io.opentelemetry.netty-4.1"),
    "recommendations": Service("python", "0.18.0", "0.19.0", 2, "opentelemetry.instrumentation.grpc"),
    "cart": Service("dotnet", "2.3.3", "2.4.0", 2, "OpenTelemetry.Instrumentation.AspNetCore"),
    "checkout": Service("go", "6.1.0", "6.2.0", 2, "go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"),
    "payment": Service("java", "8.0.1", "8.1.0", 2, "io.opentelemetry.grpc-1.6"),
    "shipping": Service("rust", "1.1.9", "1.2.0", 2, "opentelemetry-tonic"),
    "inventory": Service("java", "2.7.5", "2.8.0", 2, "io.opentelemetry.grpc-1.6"),
    "mailer": Service("ruby", "0.9.8", "1.0.0", 1, "OpenTelemetry::Instrumentation::Rack"),
    "warehouse": Service("java", "3.2.2", "3.3.0", 2, "io.opentelemetry.kafka-clients-2.6"),
    "billing": Service("python", "1.4.0", "1.5.0", 1, "opentelemetry.instrumentation.flask"),
}

DATABASES = {
    "users": Database("postgresql", "users", "users-db.shop.svc.cluster.local", 5432, "io.opentelemetry.jdbc"),
    "products": Database("postgresql", "products", "products-db.shop.svc.cluster.local", 5432, "opentelemetry.instrumentation.asyncpg"),
    "orders": Database("mysql", "orders", "orders-db.shop.svc.cluster.local", 3306, "go.nhat.io/otelsql"),
    "stock": Database("postgresql", "stock", "stock-db.shop.svc.cluster.local", 5432, "io.opentelemetry.jdbc"),
    "carts": Database("redis", "0", "carts-redis.shop.svc.cluster.local", 6379, "OpenTelemetry.Instrumentation.StackExchangeRedis"),
    "sessions": Database("redis", "1", "sessions-redis.shop.svc.cluster.local", 6379, "io.opentelemetry.jedis-4.0"),
    "index": Database("elasticsearch", "shop-search", "search-es.shop.svc.cluster.local", 9200, "io.opentelemetry.elasticsearch-rest-7.0"),
    "profiles": Database("mongodb", "profiles", "profiles-mongo.shop.svc.cluster.local", 27017, "opentelemetry.instrumentation.pymongo"),
    "ledger": Database("postgresql", "ledger", "ledger-db.shop.svc.cluster.local", 5432, "opentelemetry.instrumentation.psycopg"),
}

_SESSION = Query("sessions", "GET", "session", f"GET session:v2:eu-central-1:{USER}:current", 0.4)
_USER_ROW = Query(
    "users",
    "SELECT",
    "users",
    "SELECT users.id, users.email, users.display_name, users.locale, users.created_at, users.flags FROM users"
    " WHERE users.external_id = $1 AND users.deleted_at IS NULL LIMIT 1",
    2.1,
)
_PRODUCT = Query(
    "products",
    "SELECT",
    "products",
    "SELECT p.id, p.name, p.slug, p.description, p.price_cents, p.image_url, p.weight_grams, b.name AS brand"
    f" FROM products p JOIN brands b ON b.id = p.brand_id WHERE p.id = {ITEM} AND p.published_at IS NOT NULL",
    1.7,
)
_PRICES = Query(
    "products",
    "SELECT",
    "prices",
    "SELECT product_id, currency, amount_cents, valid_from, valid_to FROM prices"
    f" WHERE product_id IN ({ROW}, {ROW}, {ROW}) AND currency = $1 AND valid_from <= now()",
    1.9,
)
_RESERVE = Query(
    "stock",
    "UPDATE",
    "stock_levels",
    f"UPDATE stock_levels SET reserved = reserved + 1 WHERE sku = 'SKU-{ROW}' AND available - reserved >= 1 RETURNING available",
    2.6,
)
_CART = Query("carts", "HGETALL", "cart", f"HGETALL cart:{USER}", 0.5)

ENDPOINTS = {
    "frontend.home": Endpoint(
        "frontend",
        "GET",
        "/",
        "/",
        4.0,
        (Remote("auth.session"), Remote("catalog.featured"), Remote("recommendations.list", chance=0.6), Work("render home", 3.0)),
    ),
    "frontend.product": Endpoint(
        "frontend",
        "GET",
        "/products/{id}",
        f"/products/{ITEM}",
        3.0,
        (
            Remote("auth.session", chance=0.5),
            Remote("catalog.product"),
            Remote("recommendations.list", chance=0.35),
            Work("render product", 2.5),
        ),
    ),
    "frontend.search": Endpoint(
        "frontend", "GET", "/search", f"/search?q=term-{TRACE_SLOT}", 2.0, (Remote("search.query"), Remote("catalog.prices", chance=0.5))
    ),
    "frontend.cart": Endpoint("frontend", "POST", "/cart/items", "/cart/items", 2.0, (Remote("auth.session"), Remote("cart.add"))),
    "frontend.checkout": Endpoint(
        "frontend", "POST", "/checkout", "/checkout", 6.0, (Remote("auth.session"), Remote("checkout.place")), failure_chance=0.004
    ),
    "frontend.orders": Endpoint(
        "frontend",
        "GET",
        "/orders/{id}",
        f"/orders/7{TRACE_SLOT}",
        2.0,
        (Remote("auth.session"), Remote("checkout.order"), Remote("shipping.track", chance=0.6)),
    ),
    "frontend.health": Endpoint("frontend", "GET", "/healthz", "/healthz", 0.3, (), failure_chance=0.0005),
    "auth.session": Endpoint(
        "auth",
        "POST",
        "/v1/sessions/verify",
        "/v1/sessions/verify",
        1.2,
        (
            _SESSION,
            Query("users", "SELECT", "users", _USER_ROW.text, 2.1, chance=0.25),
            Query("profiles", "find", "preferences", f'{{"find": "preferences", "filter": {{"user": "{USER}"}}}}', 1.4, chance=0.1),
        ),
    ),
    "catalog.featured": Endpoint(
        "catalog",
        "GET",
        "/v2/featured",
        "/v2/featured",
        2.5,
        (
            Query(
                "products",
                "SELECT",
                "featured",
                "SELECT product_id, rank FROM featured WHERE valid_from <= now() AND valid_to > now() ORDER BY rank LIMIT 24",
                3.0,
            ),
            Query("products", "SELECT", "prices", _PRICES.text, 1.9, times=(0, 2)),
        ),
    ),
    "catalog.product": Endpoint(
        "catalog", "GET", "/v2/products/{id}", f"/v2/products/{ITEM}", 1.8, (_PRODUCT, Remote("inventory.stock", chance=0.5))
    ),
    "catalog.prices": Endpoint("catalog", "POST", "/v2/prices", "/v2/prices", 1.5, (_PRICES,)),
    "search.query": Endpoint(
        "search",
        "GET",
        "/v1/search",
        f"/v1/search?q=term-{TRACE_SLOT}",
        5.0,
        (
            Query(
                "index",
                "search",
                "products",
                f'{{"size": 24, "query": {{"multi_match": {{"query": "term-{TRACE_SLOT}", "fields": ["name^3", "brand^2", "tags"],'
                ' "fuzziness": "AUTO"}}, "sort": [{"_score": "desc"}, {"popularity": "desc"}]}',
                14.0,
            ),
            Work("rank results", 3.5, chance=0.7),
        ),
    ),
    "recommendations.list": Endpoint(
        "recommendations",
        "",
        "shop.Recommendations/List",
        "",
        6.0,
        (
            Query("profiles", "find", "events", f'{{"find": "events", "filter": {{"user": "{USER}"}}, "limit": 50}}', 4.0),
            Work("score candidates", 7.0),
        ),
    ),
    "cart.add": Endpoint(
        "cart",
        "POST",
        "/v1/carts/{user}/items",
        f"/v1/carts/{USER}/items",
        1.5,
        (_CART, Remote("catalog.product", chance=0.8), Query("carts", "HSET", "cart", f"HSET cart:{USER} item:{ITEM} 1", 0.5)),
    ),
    "cart.read": Endpoint("cart", "GET", "/v1/carts/{user}", f"/v1/carts/{USER}", 1.0, (_CART,)),
    "checkout.place": Endpoint(
        "checkout",
        "",
        "shop.Checkout/PlaceOrder",
        "",
        5.0,
        (
            Remote("cart.read"),
            Remote("inventory.reserve", times=(1, 7), together=True),
            Remote("shipping.quote"),
            Remote("payment.charge"),
            Query(
                "orders",
                "INSERT",
                "orders",
                f"INSERT INTO orders (id, user_ref, total_cents, state) VALUES (7{TRACE_SLOT}, '{USER}', ?, 'placed')",
                3.2,
            ),
            Query(
                "orders",
                "INSERT",
                "order_lines",
                f"INSERT INTO order_lines (order_id, sku, quantity, price_cents) VALUES (7{TRACE_SLOT}, 'SKU-{ROW}', ?, ?)",
                2.2,
                times=(1, 7),
            ),
            Publish("orders.placed"),
        ),
        failure_chance=0.006,
    ),
    "checkout.order": Endpoint(
        "checkout",
        "",
        "shop.Checkout/GetOrder",
        "",
        1.5,
        (Query("orders", "SELECT", "orders", f"SELECT * FROM orders WHERE id = 7{TRACE_SLOT} AND user_ref = '{USER}'", 1.6),),
    ),
    "payment.charge": Endpoint(
        "payment",
        "",
        "shop.Payment/Charge",
        "",
        35.0,
        (
            Work("score fraud", 6.0),
            Query(
                "ledger",
                "INSERT",
                "charges",
                "INSERT INTO charges (order_ref, amount_cents, currency, provider) VALUES ($1, $2, $3, $4) RETURNING id",
                2.8,
            ),
        ),
        failure_chance=0.05,
    ),
    "shipping.quote": Endpoint("shipping", "", "shop.Shipping/Quote", "", 8.0, (Work("pack boxes", 2.0),)),
    "shipping.track": Endpoint("shipping", "", "shop.Shipping/Track", "", 22.0, (), failure_chance=0.012),
    "inventory.stock": Endpoint(
        "inventory",
        "",
        "shop.Inventory/Stock",
        "",
        1.0,
        (
            Query(
                "stock",
                "SELECT",
                "stock_levels",
                "SELECT available - reserved FROM stock_levels WHERE sku = $1 AND warehouse = ANY($2)",
                1.3,
            ),
        ),
    ),
    "inventory.reserve": Endpoint("inventory", "", "shop.Inventory/Reserve", "", 1.6, (_RESERVE,), failure_chance=0.004),
    "billing.invoice": Endpoint(
        "billing",
        "POST",
        "/v1/invoices",
        "/v1/invoices",
        5.0,
        (
            Query("ledger", "INSERT", "invoices", f"INSERT INTO invoices (order_ref, issued_at) VALUES ('7{TRACE_SLOT}', now())", 3.0),
            Work("render pdf", 28.0),
        ),
    ),
    "auth.user": Endpoint("auth", "GET", "/v1/users/{id}", f"/v1/users/{USER}", 1.0, (_USER_ROW,)),
}

ENTRIES = (
    (30, "frontend.home"),
    (30, "frontend.product"),
    (18, "frontend.search"),
    (12, "frontend.cart"),
    (5, "frontend.checkout"),
    (6, "frontend.orders"),
    (7, "frontend.health"),
)
"""How often each endpoint is asked for from outside, through the gateway."""

QUEUES = {
    "orders.placed": (
        Consumer("mailer", (Remote("auth.user"), Work("render mail", 5.0), Publish("mail.outbox", chance=0.3)), 12.0),
        Consumer(
            "warehouse",
            (Query("stock", "UPDATE", "stock_levels", _RESERVE.text, 2.6, times=(1, 4)), Remote("shipping.quote", chance=0.3)),
            6.0,
        ),
        Consumer("billing", (Remote("billing.invoice"),), 4.0),
    ),
    "mail.outbox": (Consumer("mailer", (Work("smtp deliver", 60.0),), 3.0, failure_chance=0.03),),
}

SWEEP = Consumer(
    "warehouse",
    (
        Query(
            "stock",
            "SELECT",
            "stock_levels",
            "SELECT sku, available, reserved FROM stock_levels WHERE updated_at > $1 ORDER BY sku FOR UPDATE SKIP LOCKED LIMIT 100",
            9.0,
        ),
        Query("stock", "UPDATE", "stock_levels", f"UPDATE stock_levels SET reserved = 0 WHERE sku = 'SKU-{ROW}'", 2.4, times=(2, 24)),
        Work("write manifest", 4.0),
    ),
    8.0,
)
"""A worker that takes several placed orders at once: the root of its own trace, with links to the producers."""

DATABASE_FAILURES = (
    Failure("QueryTimeoutError", "canceling statement due to statement timeout after 5000 ms", "executeWithTimeout"),
    Failure("PoolExhaustedError", "no connection became free within 2000 ms (20 of 20 in use)", "acquireConnection"),
)
SERVICE_FAILURES = {
    "payment": (
        Failure("CardDeclinedException", "card declined by issuer: insufficient funds", "authorizeCharge"),
        Failure("ProviderUnavailableException", "payment provider answered 503 Service Unavailable", "postToProvider"),
    ),
    "inventory": (Failure("OutOfStockException", f"SKU-{ROW} has no free stock in any warehouse", "reserveStock"),),
    "shipping": (Failure("CarrierTimeout", "carrier api did not answer within 3000 ms", "track_parcel"),),
    "mailer": (Failure("Net::SMTPServerBusy", "451 4.7.1 greylisted, try again later", "deliver_message"),),
}
OTHER_FAILURES = (
    Failure("NullReferenceException", "object reference not set to an instance of an object", "mapResponse"),
    Failure("ValidationError", f"field 'quantity' of item {ROW} must be positive", "validateRequest"),
)
