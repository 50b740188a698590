"""amoCRM's own windows, drawn for docs/connect-amocrm.md: nobody could photograph them here.

The names of fields and buttons are those of amoCRM's documents; how they are arranged is ours, and a line below says so.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape

CAPTION = "Drawn: amoCRM's own window may look a little different."
FRAME = 24                             # pixels beside what is drawn: the figure's border and padding
STYLE = """
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: #2b3340; font: 15px/1.4 "DejaVu Sans", sans-serif; }
figure { margin: 0; padding: 14px; border: 10px solid #c9ced6; background: #eef0f3; }
figcaption { margin-top: 10px; color: #5b6472; font-size: 13px; font-style: italic; }
.page { position: relative; display: grid; grid-template-columns: 96px 1fr; min-height: 300px; background: #f7f8fa; }
.menu { padding: 12px 6px; background: #28344d; color: #c4ccda; font-size: 11px; text-align: center; }
.menu span { display: block; padding: 9px 2px; border-radius: 4px; overflow-wrap: anywhere; }
.menu .here { background: #3d4f76; color: #fff; }
.bar { display: flex; gap: 12px; align-items: center; padding: 12px 18px; border-bottom: 1px solid #dde1e7; background: #fff; }
.bar b { margin-right: auto; }
.body { padding: 16px 18px; }
.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: 12px; }
.tile { height: 84px; padding: 10px; border: 1px solid #dde1e7; border-radius: 4px; background: #fff; color: #8a93a1; }
.drop { position: absolute; right: 18px; top: 64px; width: 380px; padding: 6px 0; border: 1px solid #cfd5dd; background: #fff;
  box-shadow: 0 6px 20px #0002; }
.drop div { margin: 0 8px; padding: 9px 12px; border-radius: 3px; }
.window { margin: 0 auto; border: 1px solid #cfd5dd; border-radius: 4px; background: #fff; box-shadow: 0 6px 20px #0002; }
.window > h2 { margin: 0; padding: 14px 20px; border-bottom: 1px solid #dde1e7; font-size: 17px; }
.window > div { padding: 14px 20px; }
img { display: block; margin: 0 auto; }
.tabs { display: flex; gap: 22px; padding-bottom: 8px !important; border-bottom: 1px solid #dde1e7; color: #8a93a1; }
.tabs b { color: #2b3340; border-bottom: 2px solid #4c8bf7; padding-bottom: 6px; }
.field { display: grid; grid-template-columns: 330px 1fr; gap: 4px 14px; align-items: center; margin-bottom: 9px; }
.field i, i.en { color: #6b7482; font-style: normal; font-size: 13px; }
.value { min-height: 34px; padding: 6px 10px; border: 1px solid #cfd5dd; border-radius: 3px; background: #fff; overflow-wrap: anywhere; }
.button { display: inline-block; padding: 8px 18px; border: 1px solid #cfd5dd; border-radius: 3px; background: #fff; }
.main { border-color: #4c8bf7; background: #4c8bf7; color: #fff; }
.buttons { display: flex; gap: 12px; justify-content: flex-end; margin-top: 14px; }
.press { outline: 3px solid #d6006c; outline-offset: 2px; }
.feed { border-left: 3px solid #dde1e7; padding: 2px 0 2px 16px; }
.feed > div { margin-bottom: 10px; padding: 10px 14px; border: 1px solid #dde1e7; border-radius: 4px; background: #fff; }
.play { display: inline-grid; place-items: center; width: 28px; height: 28px; margin-right: 8px; border-radius: 50%; background: #4c8bf7; color: #fff; }
.line { display: inline-block; width: 300px; height: 4px; vertical-align: middle; background: #d5dae2; }
"""
REDIRECT, DISCONNECT = "https://pbx.example.org/amocrm/oauth", "https://pbx.example.org/amocrm/disconnect"


def drawn(body: str) -> str:
    return (f"<!doctype html><html lang=en><meta charset=utf-8><title>Drawn</title><style>{STYLE}</style>"
            f"<figure>{body}<figcaption>{CAPTION}</figcaption></figure>")


def framed(png: bytes, title: str = "") -> str:
    """What was photographed after all: of the widget in a page like amoCRM's."""
    picture = f'<img alt="" src="data:image/png;base64,{b64encode(png).decode()}">'
    return drawn(f"<div class=window style='width: max-content'><h2>{escape(title)}</h2>{picture}</div>" if title
                 else picture)


def menu(here: str) -> str:
    """At the left of every page."""
    return "".join(f"<span{' class=here' if name == here else ''}>{name}</span>"
                   for name in ("Рабочий стол", "Сделки", "Задачи", "Списки", "Почта", "amoМаркет", "Настройки"))


def market() -> str:
    """Where an integration begins."""
    tiles = "".join(f"<div class=tile>{name}</div>" for name in ("Виджет", "Почта", "Мессенджер", "Касса") * 2)
    return drawn(f"""<div class=page><div class=menu>{menu("amoМаркет")}</div><div>
<div class=bar><b>amoМаркет <i class=en>· amoMarket</i></b><span class=button>Установленные</span>
<span class="button press">⋮</span></div><div class=body><div class=tiles>{tiles}</div></div></div>
<div class=drop><div class=press>Создать интеграцию <i class=en>· Create an integration</i></div></div></div>""")


def new_integration() -> str:
    return drawn(_window("Создать интеграцию · Create an integration", [
        ("Ссылка для перенаправления", "Redirect URI", REDIRECT, True),
        ("Ссылка для хука об отключении", "Address of the disconnect hook", DISCONNECT, False),
        ("Предоставить доступ", "Access", "☑ Все · all that is offered", True),
        ("Название интеграции", "Name", "Smartswitch", True),
        ("Описание", "Description", "Our telephony", False),
        ("Иконка интеграции", "Logo, 400×272", "logo_main.png", False),
    ], ("Сохранить · Save",)))


def keys() -> str:
    return drawn(_window("Smartswitch", [
        ("Секретный ключ", "Secret key", "q3Zk…yours is 64 letters and digits…8Hf1", True),
        ("ID интеграции", "Id of the integration", "5b0c81d2-6c1e-4f0a-9b7a-2f4d8c1e7a90", True),
        ("Код авторизации", "Authorisation code, good for 20 minutes", "def502…", False),
    ], (), ("Описание", "Авторизация", "*Ключи и доступы · Keys and access")))


def consent() -> str:
    return drawn(f"""<div class=window style="width: 560px"><h2>Smartswitch</h2><div>
<p>Приложение просит доступ к вашему аккаунту.<br><i class=en>The application asks for access to your account.</i></p>
<div class=value>acme.amocrm.ru</div>
{_buttons("Отказать · Refuse", "*Разрешить · Allow")}</div></div>""")


def upload() -> str:
    return drawn(_window("Smartswitch: редактирование · edit", [
        ("Ссылка для перенаправления", "Redirect URI", REDIRECT, False),
        ("Название интеграции", "Name", "Smartswitch", False),
        ("Архив с виджетом", "Archive of the widget", "widget.zip", True),
    ], ("Сохранить · Save",)))


def card_with_call(who: str, number: str, at: str) -> str:
    return drawn(f"""<div class=window style="width: 100%"><h2>{escape(who)}</h2><div>
<div class=field><span>Рабочий телефон <i>Phone</i></span><div class=value>{escape(number)}</div></div>
<div class=feed><div class=press>{escape(at)} · <b>Входящий звонок</b> <i class=en>incoming call</i> · Anna Archer · 3:12
<p><span class=play>▶</span><span class=line></span> <a>Скачать</a> <i class=en>download</i></p></div></div></div></div>""")


def _window(title: str, fields: Sequence[tuple[str, str, str, bool]], buttons: Sequence[str],
            tabs: Sequence[str] = ()) -> str:
    """Fields by their name there, what it means, what stands in it, and whether it is the one that matters here."""
    rows = "".join(f"""<div class=field><span>{escape(name)}<br><i>{escape(meaning)}</i></span>
<div class="value{' press' if matters else ''}">{escape(value)}</div></div>""" for name, meaning, value, matters in fields)
    head = "".join(f"<b>{tab[1:]}</b>" if tab.startswith("*") else f"<span>{tab}</span>" for tab in tabs)
    return (f'<div class=window style="width: 100%"><h2>{escape(title)}</h2>'
            f'{f"<div class=tabs>{head}</div>" if tabs else ""}<div>{rows}{_buttons(*(f"*{one}" for one in buttons))}</div></div>')


def _buttons(*names: str) -> str:
    """The one with an asterisk is to be pressed."""
    made = "".join(f'<span class="button{" main press" if name.startswith("*") else ""}">{escape(name.lstrip("*"))}</span>'
                   for name in names)
    return f"<div class=buttons>{made}</div>" if names else ""
