"""Examples of the webhook routes' requests and answers, for the API's description."""

from typing import Any, Final

Json = dict[str, Any]

ENDPOINT: Final[Json] = {
    "id": "whe_01a2136c5f7b7d3e9c41d0a86be2f154",
    "url": "https://ci.example.com/hooks/pst",
    "events": ["job.failed", "job.succeeded"],
    "description": "nightly pipeline",
    "enabled": True,
    "disabled_reason": None,
    "failing_since": None,
    "failures": 0,
    "previous_until": None,
    "created_at": "2026-11-25T14:02:11.184021Z",
}
ONCE: Final[Json] = ENDPOINT | {"secret": f"whsec_{'x' * 43}="}
PENDING: Final[Json] = {
    "id": "msg_01a2136c60007d3e9c41d0a86be2f154",
    "type": "webhook.ping",
    "data": {"webhook_endpoint_id": ENDPOINT["id"]},
    "state": "pending",
    "created_at": "2026-11-25T14:05:11.482902Z",
    "next_at": "2026-11-25T14:05:11.482902Z",
    "finished_at": None,
    "attempts": [],
}
DELIVERED: Final[Json] = PENDING | {
    "type": "job.succeeded",
    "data": {
        "job_id": "job_01a2136c5f7b7d3e9c41d0a86be2f154",
        "status": "succeeded",
        "run": 1,
        "attempt": 1,
        "seq": 9,
    },
    "state": "delivered",
    "next_at": None,
    "finished_at": "2026-11-25T14:05:17.201177Z",
    "attempts": [
        {
            "number": 1,
            "at": "2026-11-25T14:05:11.503113Z",
            "seconds": 0.214,
            "status": 503,
            "error": "refused",
        },
        {
            "number": 2,
            "at": "2026-11-25T14:05:17.020931Z",
            "seconds": 0.171,
            "status": 204,
            "error": None,
        },
    ],
}


def _page(*items: Json) -> Json:
    return {"data": list(items), "has_more": False, "next_cursor": None}


EXAMPLES: Final[dict[str, dict[str, Json]]] = {
    "list_webhook_endpoints": {"200": {"page": _page(ENDPOINT)}},
    "create_webhook_endpoint": {
        "request": {
            "for ends": {
                "url": ENDPOINT["url"],
                "events": ENDPOINT["events"],
                "description": ENDPOINT["description"],
            }
        },
        "201": {"shown once": ONCE},
    },
    "get_webhook_endpoint": {"200": {"working": ENDPOINT}},
    "change_webhook_endpoint": {
        "request": {"switch on": {"enabled": True}},
        "200": {"changed": ENDPOINT},
    },
    "rotate_webhook_secret": {
        "request": {"within the hour": {"overlap_seconds": 3600}},
        "200": {"shown once": ONCE | {"previous_until": "2026-11-25T15:02:11.184021Z"}},
    },
    "ping_webhook_endpoint": {"202": {"pending": PENDING}},
    "list_webhook_deliveries": {"200": {"page": _page(PENDING, DELIVERED)}},
    "replay_webhook_delivery": {"202": {"pending": PENDING}},
}
