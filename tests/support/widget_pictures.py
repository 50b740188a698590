"""Draws the widget's logos, and its tour in each language, from SVG and HTML by a browser.

The tour shows the widget's own style sheet and words, so that it changes with them.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from html import escape
from pathlib import Path
from typing import Any

from b2bua.widget_lint import LOGOS, TOUR
from tests.support.chromium import Tab, open_chromium

ROOT = Path(__file__).parents[2]
STYLE = (ROOT / "widget" / "style.css").read_text("utf-8")
ICON = (ROOT / "web" / "static" / "icon.svg").read_text("utf-8")
NAMES: dict[str, dict[str, str]] = {
    "ru": {"who": "Иван Петров", "deal": "Поставка мебели для офиса", "number": "+7 916 123-45-67",
           "company": "ООО «Лесная сказка»"},
    "en": {"who": "John Carter", "deal": "Office furniture, second floor", "number": "+44 20 7946 0123",
           "company": "Carter & Sons Ltd"},
    "es": {"who": "Juan Pérez", "deal": "Muebles para la oficina", "number": "+34 910 123 456",
           "company": "Pérez e Hijos, S. L."},
}
PAGE = """
* {{ box-sizing: border-box; }}
body {{ margin: 0; width: {width}px; height: {height}px; overflow: hidden; background: #fff; color: #1f2937;
  font-family: "DejaVu Sans", sans-serif; -webkit-font-smoothing: antialiased; }}
.logo {{ display: flex; align-items: center; justify-content: center; width: 100%; height: 100%; }}
.logo svg {{ flex: none; }}
.logo b {{ font-weight: 700; letter-spacing: -.02em; }}
.tour {{ display: grid; grid-template-columns: 452px 1fr; height: 100%; background: #eef3fd; }}
.say {{ padding: 88px 24px 0 64px; }}
.say svg {{ width: 56px; height: 56px; }}
.say h1 {{ margin: 28px 0 16px; font-size: 33px; line-height: 1.2; letter-spacing: -.02em; }}
.say p {{ margin: 0; color: #46505f; font-size: 18px; line-height: 1.5; }}
.window {{ position: relative; margin: 56px 56px 0 16px; overflow: hidden; border-radius: 12px 12px 0 0;
  background: #fff; box-shadow: 0 12px 40px rgba(30, 60, 130, .16); }}
.bar {{ height: 52px; border-bottom: 1px solid #e6e9ee; padding: 16px 24px; font-size: 16px; font-weight: 700; }}
.lines {{ padding: 20px 24px; }}
.lines i {{ display: block; height: 11px; margin-bottom: 17px; border-radius: 6px; background: #edf0f4; }}
.lines .real {{ margin-bottom: 16px; font-size: 16px; }}
.lines .real a {{ color: #2563eb; }}
.window .smartswitch-card {{ position: absolute; right: 24px; bottom: 24px; zoom: 1.3; }}
.window .smartswitch-form {{ padding: 8px 24px; font-size: 15px; }}
.window .smartswitch-form__choice {{ margin-top: 14px; }}
.window .smartswitch-form input {{ margin: 0; }}
.window .smartswitch-form p {{ font-size: 13px; line-height: 1.35; }}
"""


async def draw(directory: Path) -> None:
    async with open_chromium() as tab:
        for name, (width, height) in LOGOS.items():
            await shoot(tab, directory / f"{name}.png", width, height, logo(width, height))
        for language in NAMES:
            words = json.loads((ROOT / "widget" / "i18n" / f"{language}.json").read_text("utf-8"))
            await shoot(tab, directory / f"tour_1_{language}.png", *TOUR, in_a_call(words, NAMES[language]))
            await shoot(tab, directory / f"tour_2_{language}.png", *TOUR, settings(words))


async def shoot(tab: Tab, file: Path, width: int, height: int, body: str) -> None:
    html = f"<!doctype html><meta charset=utf-8><style>{STYLE}{PAGE.format(width=width, height=height)}</style>{body}"
    await tab.look(width=width, height=height)
    await tab.open(f"data:text/html;base64,{base64.b64encode(html.encode()).decode()}")
    await tab.photograph(file)


def logo(width: int, height: int) -> str:
    """The sign alone where it is square, with the name beside or below it elsewhere."""
    if width == height:
        return f'<div class=logo>{sign(round(height * .76))}</div>'
    if width > 2 * height:
        return f'<div class=logo style="gap: 12px">{sign(48)}<b style="font-size: 25px">Smartswitch</b></div>'
    size = round(height * .44)
    return (f'<div class=logo style="flex-direction: column; gap: {round(height * .08)}px">{sign(size)}'
            f'<b style="font-size: {round(height * .152)}px">Smartswitch</b></div>')


def sign(size: int) -> str:
    return ICON.replace("<svg ", f'<svg width="{size}" height="{size}" ', 1)


def in_a_call(words: dict[str, Any], names: dict[str, str]) -> str:
    lines = "".join(f'<i style="width: {width}%"></i>' for width in (38, 61, 47, 70, 33, 55, 64, 41, 52, 36))
    return tour(words["widget"]["short_description"], words["widget"]["tour_description"], f"""
<div class=bar>{escape(names["company"])}</div>
<div class=lines><div class=real>{escape(names["who"])} · <a>{escape(names["number"])}</a></div>{lines}</div>
<section class=smartswitch-card><div class=smartswitch-card__call>
<div class=smartswitch-card__who>{escape(names["who"])}</div>
<div class=smartswitch-card__number>{escape(names["number"])}</div>
<div class=smartswitch-card__deal>{escape(names["deal"])}</div>
<div class=smartswitch-card__state><span>{escape(words["states"]["talking"])}</span><span>1:24</span></div>
<button class=smartswitch-card__hang-up>{escape(words["card"]["hang_up"])}</button>
<button class=smartswitch-card__close>×</button></div></section>""")


def settings(words: dict[str, Any]) -> str:
    on = ("forward_to_responsible", "set_caller_name", "create_on_incoming", "task_on_missed")
    names = [name for name in words["functions"] if name != "live_card"]
    choices = "".join(f"""<div class=smartswitch-form__choice><input type=checkbox {"checked" if name in on else ""}>
<label>{escape(words["functions"][name])}</label><p>{escape(words["sentences"][name])}</p></div>""" for name in names)
    return tour(words["form"]["functions"], words["widget"]["description"],
                f'<div class=bar>Smartswitch</div><div class=smartswitch-form>{choices}</div>')


def tour(title: str, text: str, window: str) -> str:
    return f"""<div class=tour><div class=say>{sign(56)}<h1>{escape(title)}</h1><p>{escape(text)}</p></div>
<div class=window>{window}</div></div>"""


if __name__ == "__main__":
    asyncio.run(draw(Path(sys.argv[1])))
