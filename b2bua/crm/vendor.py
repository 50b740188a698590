"""The vendor's own addresses."""

from __future__ import annotations

import re

VENDOR = re.compile(r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})?\.(amocrm\.ru|amocrm\.com|kommo\.com)")
