"""What the widget's requests are refused with: a code for the widget, and words in the language of its page."""

from __future__ import annotations

from collections.abc import Mapping

from web.problems import Problem

LANGUAGES = ("en", "ru", "es")
LONGEST_DETAIL = 500                   # characters

_Words = tuple[str, str, str]          # title, detail, remedy


def language(asked: str) -> str:
    return asked if asked in LANGUAGES else "en"


def problem(code: str, lang: str, *, retry_after: int | None = None, **facts: object) -> Problem:
    """`facts` fill the detail."""
    title, detail, remedy = WORDS[code][language(lang)]
    return Problem(STATUS[code], title, remedy.format(**facts), detail=detail.format(**facts)[:LONGEST_DETAIL],
                   code=code, retry_after=retry_after)


STATUS: Mapping[str, int] = {
    "malformed": 400, "token_missing": 401, "token_invalid": 401, "token_expired": 401, "token_elsewhere": 401,
    "wrong_password": 401, "password_needed": 401, "not_admin": 403, "no_extension": 403, "extension_mismatch": 403,
    "not_connected": 404, "no_such_call": 404, "too_slow": 408, "already_calling": 409, "click_too_late": 409,
    "too_large": 413, "invalid": 422, "invalid_number": 422, "double_extension": 422, "unknown_extension": 422,
    "unknown_user": 422, "too_many": 429, "fault": 500, "unavailable": 503,
}

WORDS: Mapping[str, Mapping[str, _Words]] = {
    "malformed": {
        "en": ("The request is no JSON object", "", "Send an object as application/json in UTF-8"),
        "ru": ("Запрос — не объект JSON", "", "Пришлите объект как application/json в UTF-8"),
        "es": ("La petición no es un objeto JSON", "", "Envíe un objeto como application/json en UTF-8"),
    },
    "token_missing": {
        "en": ("The page has sent no token", "", "Reload the page"),
        "ru": ("Страница не прислала токен", "", "Обновите страницу"),
        "es": ("La página no ha enviado ningún token", "", "Recargue la página"),
    },
    "token_invalid": {
        "en": ("The token of the page is not valid here", "",
               "Reload the page; if that does not help, the integration's keys at the server must be looked at"),
        "ru": ("Токен страницы здесь не действует", "",
               "Обновите страницу; если не поможет, нужно проверить ключи интеграции на сервере"),
        "es": ("El token de la página no es válido aquí", "",
               "Recargue la página; si no ayuda, hay que revisar las claves de la integración en el servidor"),
    },
    "token_expired": {
        "en": ("The page is too old", "", "Reload the page"),
        "ru": ("Страница открыта слишком давно", "", "Обновите страницу"),
        "es": ("La página es demasiado antigua", "", "Recargue la página"),
    },
    "token_elsewhere": {
        "en": ("This account has another address at the server", "",
               "The server asks the CRM where the account is now: try again in a minute; if it stays so, an "
               "administrator enters the account's address in Smartswitch, on the page amoCRM"),
        "ru": ("На сервере у этого аккаунта другой адрес", "",
               "Сервер спрашивает CRM, где теперь аккаунт: попробуйте через минуту; если не поможет, администратор "
               "указывает адрес аккаунта в Smartswitch на странице «amoCRM»"),
        "es": ("Para el servidor, esta cuenta tiene otra dirección", "",
               "El servidor pregunta al CRM dónde está ahora la cuenta: inténtelo en un minuto; si no cambia, un "
               "administrador introduce la dirección de la cuenta en Smartswitch, en la página amoCRM"),
    },
    "wrong_password": {
        "en": ("Login or password is wrong", "", "Ask whoever runs the server for them"),
        "ru": ("Неверный логин или пароль", "", "Узнайте их у того, кто обслуживает сервер"),
        "es": ("El usuario o la contraseña no es correcto", "", "Pídalos a quien administra el servidor"),
    },
    "password_needed": {
        "en": ("The password is needed", "", "Enter login and password in the widget's settings and save them"),
        "ru": ("Нужен пароль", "", "Введите логин и пароль в настройках виджета и сохраните их"),
        "es": ("Se necesita la contraseña", "",
               "Introduzca usuario y contraseña en los ajustes del widget y guárdelos"),
    },
    "not_admin": {
        "en": ("Only administrators may change the settings", "", "Ask an administrator of the account"),
        "ru": ("Настройки может менять только администратор", "", "Обратитесь к администратору аккаунта"),
        "es": ("Solo los administradores pueden cambiar los ajustes", "", "Pídalo a un administrador de la cuenta"),
    },
    "no_extension": {
        "en": ("You have no extension", "", "An administrator enters it at your name: in Smartswitch, on the page "
               "Users, or in the widget's settings"),
        "ru": ("У вас нет внутреннего номера", "", "Администратор указывает его у вашего имени: в Smartswitch на "
               "странице «Пользователи» или в настройках виджета"),
        "es": ("No tiene extensión", "", "Un administrador la introduce junto a su nombre: en Smartswitch, en la "
               "página Users, o en los ajustes del widget"),
    },
    "extension_mismatch": {
        "en": ("The page knows another extension", "The page says {said}, and yours is {has}",
               "Reload the page, or have the settings saved again"),
        "ru": ("Страница знает другой внутренний номер", "На странице {said}, а ваш — {has}",
               "Обновите страницу или попросите сохранить настройки ещё раз"),
        "es": ("La página conoce otra extensión", "La página dice {said}, y la suya es {has}",
               "Recargue la página o pida que se guarden de nuevo los ajustes"),
    },
    "not_connected": {
        "en": (
            "This account is not connected", "{why}",
            "An administrator enters login and password in the widget's settings; whoever runs the server knows them"),
        "ru": ("Этот аккаунт не подключён", "{why}",
               "Администратор вводит логин и пароль в настройках виджета; их знает тот, кто обслуживает сервер"),
        "es": (
            "Esta cuenta no está conectada", "{why}",
            "Un administrador introduce usuario y contraseña en los ajustes; los conoce quien administra el servidor"),
    },
    "no_such_call": {
        "en": ("There is no such call", "", "It may have ended a while ago; its note is in the card"),
        "ru": ("Такого звонка нет", "", "Возможно, он давно закончился; запись о нём — в карточке"),
        "es": ("No existe esa llamada", "", "Quizá terminó hace un rato; su nota está en la ficha"),
    },
    "too_slow": {
        "en": ("The request took too long to arrive", "", "Try again"),
        "ru": ("Запрос шёл слишком долго", "", "Попробуйте ещё раз"),
        "es": ("La petición tardó demasiado en llegar", "", "Inténtelo de nuevo"),
    },
    "already_calling": {
        "en": ("A call of yours is under way already", "", "End it first"),
        "ru": ("Ваш звонок уже идёт", "", "Сначала завершите его"),
        "es": ("Ya tiene una llamada en curso", "", "Termínela primero"),
    },
    "click_too_late": {
        "en": ("The click has come too late to be called", "", "Click once more"),
        "ru": ("Нажатие дошло слишком поздно, чтобы позвонить", "", "Нажмите ещё раз"),
        "es": ("El clic ha llegado demasiado tarde para llamar", "", "Haga clic otra vez"),
    },
    "too_large": {
        "en": ("The request is too large", "It may have {most} bytes", "Send less at once"),
        "ru": ("Запрос слишком большой", "Можно не больше {most} байт", "Пришлите меньше за один раз"),
        "es": ("La petición es demasiado grande", "Puede tener {most} bytes", "Envíe menos a la vez"),
    },
    "invalid": {
        "en": ("The request is not as it should be", "{member}: {why}",
               "Reload the page, so that the widget is up to date"),
        "ru": ("Запрос составлен неверно", "{member}: {why}", "Обновите страницу, чтобы виджет был актуальным"),
        "es": ("La petición no es como debe ser", "{member}: {why}", "Recargue la página para tener el widget actual"),
    },
    "invalid_number": {
        "en": ("This number cannot be called", "{number}", "Correct it in the card"),
        "ru": ("На этот номер нельзя позвонить", "{number}", "Исправьте его в карточке"),
        "es": ("No se puede llamar a este número", "{number}", "Corríjalo en la ficha"),
    },
    "double_extension": {
        "en": ("One extension stands at two users", "{extension}: {users}", "Give each of them their own"),
        "ru": ("Один внутренний номер указан у двух пользователей", "{extension}: {users}", "Дайте каждому свой"),
        "es": ("Dos usuarios tienen la misma extensión", "{extension}: {users}", "Dé a cada uno la suya"),
    },
    "unknown_extension": {
        "en": ("This extension does not exist", "{extension} of {user} is no extension of {client}",
               "Enter one of these, or have it made first: {known}"),
        "ru": ("Такого внутреннего номера нет", "{extension} ({user}) — не внутренний номер {client}",
               "Укажите один из этих или попросите сначала завести его: {known}"),
        "es": ("Esta extensión no existe", "{extension} de {user} no es una extensión de {client}",
               "Introduzca una de estas, o pida que se cree antes: {known}"),
    },
    "unknown_user": {
        "en": ("This user is not active in the CRM", "{user}",
               "Leave their extension empty; someone new is known within an hour"),
        "ru": ("Этот пользователь не активен в CRM", "{user}",
               "Оставьте его номер пустым; о новом сервер узнаёт в течение часа"),
        "es": ("Este usuario no está activo en el CRM", "{user}",
               "Deje su extensión vacía; de uno nuevo se sabe en una hora"),
    },
    "too_many": {
        "en": ("Too many requests", "", "Wait {seconds} s, then try again"),
        "ru": ("Слишком много запросов", "", "Подождите {seconds} с и попробуйте ещё раз"),
        "es": ("Demasiadas peticiones", "", "Espere {seconds} s e inténtelo de nuevo"),
    },
    "fault": {
        "en": ("The server has made a mistake", "", "Try again; if it stays, tell whoever runs the server"),
        "ru": ("Ошибка на сервере", "", "Попробуйте ещё раз; если не поможет, сообщите тому, кто обслуживает сервер"),
        "es": ("El servidor ha cometido un error", "",
               "Inténtelo de nuevo; si no cambia, dígalo a quien administra el servidor"),
    },
    "unavailable": {
        "en": ("The server cannot do that just now", "", "Try again shortly; calls that are up go on"),
        "ru": ("Сервер сейчас не может это сделать", "", "Попробуйте чуть позже; текущие разговоры продолжаются"),
        "es": ("El servidor no puede hacerlo ahora", "", "Inténtelo en breve; las llamadas en curso continúan"),
    },
}

OTHER_CRM: Mapping[str, str] = {
    "en": "the CRM of {client} is another account", "ru": "CRM клиента {client} — другой аккаунт",
    "es": "el CRM de {client} es otra cuenta",
}
TRUNK_DOWN: Mapping[str, str] = {
    "en": "The trunk {trunk} is down: {why}.", "ru": "Линия {trunk} не работает: {why}.",
    "es": "La línea {trunk} no funciona: {why}.",
}
FROM_THE_FILE: Mapping[str, str] = {
    "en": "Whose extension is whose is said in Smartswitch, on the page Users: what is entered here does not count.",
    "ru": "Чей какой внутренний номер, задают в Smartswitch на странице «Пользователи»: указанное здесь не действует.",
    "es": "De quién es cada extensión se dice en Smartswitch, en la página Users: lo que se introduce aquí no cuenta.",
}
