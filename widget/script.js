// The Smartswitch widget of amoCRM and Kommo. It hands clicks and settings to the server and shows what comes back
// (docs/widget-api.md); it holds no secret, and decides nothing that the server can.
define(['jquery'], function ($) {
  'use strict';

  const SERVER = 'https://pbx.example.org';      // `smartswitch widget build --url` puts its own here
  const API = '/widget/v1/';
  const LANGUAGES = ['ru', 'en', 'es'];
  const FUNCTIONS = {                            // how they stand in a window that was never saved
    forward_to_responsible: true, set_caller_name: true, create_on_incoming: false, create_on_outgoing: false,
    task_on_new_contact: false, task_on_missed: false,
  };
  const LIVE_CARD = 'live_card';                 // of the browser alone: the server never hears of it
  const CARD_PAGES = {contacts: '/contacts/detail/', companies: '/companies/detail/', leads: '/leads/detail/'};
  const UNUSABLE_ADDRESS = ['no_address', 'no_https'];       // codes of problems that are found here
  const LOOPBACK = ['localhost', '127.0.0.1', '[::1]'];

  const PATIENCE = 10000;                        // milliseconds for an answer, as all times here
  const LONG_PATIENCE = 40000;                   // for one that comes when something changes; the server waits for 25 s
  const DOUBLE_CLICK = 2000;
  const ONCE_MORE = 1000;                        // before a click is sent again whose answer was lost
  const GAP = 1000;                              // after an answer with nothing new, should the server not wait
  const SHORTEST_WAIT = 5000;                    // after a failure; doubled with each, up to
  const LONGEST_WAIT = 300000;
  const MOST_FAILURES = 5;                       // in a row, before calls are lost sight of
  const LINGER = 6000;                           // that an ended call is still shown
  const LONGEST_NUMBER = 64;                     // characters of what stands in a card for one
  const MOST_NAMED = 5;                          // faults of a form, told at once
  const RESEND_AFTER = [5000, 30000, 120000, 600000];
  const UNSENT = 'smartswitch-unsent';           // in localStorage while the server lacks the last settings
  const EDGES = [                                // places of the card, clear of amoCRM's menu (left) and top bar
    {right: 16, bottom: 16}, {right: 16, top: 80}, {left: 88, bottom: 16}, {left: 88, top: 80},
  ];
  const CONTROLS = 'a, button, input, select, textarea, [role="button"], [contenteditable="true"]';

  // Small things

  const trimmed = (value) => (value === undefined || value === null ? '' : String(value).trim());
  const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
  const crm = () => window.APP || window.AMOCRM;
  const crmLanguage = () => (LANGUAGES.includes(crm().lang_id) ? crm().lang_id : 'en');
  // Half as long to half as long again: after a restart of the server not all pages come at once.
  const waitAfter = (failures) => Math.min(SHORTEST_WAIT * 2 ** failures, LONGEST_WAIT) * (0.5 + Math.random());

  // What amoCRM gives as an object today it may give as JSON tomorrow.
  function asObject(value) {
    try {
      const read = typeof value === 'string' ? JSON.parse(value) : value;
      return read && typeof read === 'object' ? read : {};
    } catch (error) {
      return {};
    }
  }

  function filled(text, values) {
    return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
  }

  // For amoCRM's notifications, which take HTML.
  function escaped(text) {
    const entities = {'&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;'};
    return String(text).replace(/[&<>"']/g, (character) => entities[character]);
  }

  function element(tag, properties, children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(properties || {})) {
      if (name in made) {
        made[name] = value;
      } else {
        made.setAttribute(name, value);
      }
    }
    made.append(...(children || []));
    return made;
  }

  // As if a person had done it: amoCRM listens to wake its button.
  function setValue(input, value) {
    input.value = value;
    input.dispatchEvent(new Event('change', {bubbles: true}));
  }

  function uuid() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
  }

  function clock(seconds) {
    const two = (number) => String(number).padStart(2, '0');
    const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.floor(seconds) % 60];
    return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
  }

  function sentences(parts) {
    return parts.map(trimmed).filter(Boolean).map((part) => (/[.!?…]$/.test(part) ? part : `${part}.`)).join(' ');
  }

  function notify(type, header, text) {
    const {notifications} = crm();               // not on every page of the CRM; the card says it, too
    if (notifications && notifications.show_notification) {
      notifications.show_notification({text: {header: escaped(header), text: escaped(trimmed(text))}, type: type});
    }
  }

  function cardOnScreen() {
    const shown = crm().isCard && crm().isCard() && crm().data && crm().data.current_card;
    return shown && Number(shown.id) > 0 ? {entity: {type: crm().getBaseEntity(), id: Number(shown.id)}} : {};
  }

  const me = () => (crm().constant('user') || {}).id;
  const users = () => crm().constant('managers') || {};
  const hasLeft = (id) => Boolean(users()[id]) && [false, 0, '0', 'N'].includes(users()[id].active);

  // With the number, where two have the same name.
  function nameOfUser(id) {
    const title = trimmed(users()[id] && users()[id].title);
    const shared = Object.values(users()).filter((user) => trimmed(user.title) === title).length > 1;
    return title && shared ? `${title} (${id})` : title || id;
  }

  // The browser's store may be full, or closed by a policy: then nobody remembers that settings are owed.
  function remember(isOwed) {
    try {
      localStorage[isOwed ? 'setItem' : 'removeItem'](UNSENT, '1');
    } catch (error) {
      console.debug(error);
    }
  }

  function isOwed() {
    try {
      return localStorage.getItem(UNSENT) !== null;
    } catch (error) {
      return false;
    }
  }

  // The server

  // As it is asked; throws what is wrong with it as a problem.
  function checkedAddress(address, say) {
    let url;
    try {
      url = new URL(address);
    } catch (error) {
      throw {status: 0, code: 'no_address', words: say('problems.no_address', {server: address})};
    }
    if (url.protocol !== 'https:' && !(url.protocol === 'http:' && LOOPBACK.includes(url.hostname))) {
      throw {status: 0, code: 'no_https', words: say('problems.no_https')};
    }
    return (url.origin + url.pathname).replace(/\/+$/, '');
  }

  // {status, code, words}; status 0: nobody answered.
  function problemOf(xhr, address, say) {
    const status = xhr.status || 0;
    const told = asObject(xhr.responseText);
    if (status && told.title) {
      return {status: status, code: trimmed(told.code), words: sentences([told.title, told.detail, told.remedy])};
    }
    // 5xx without our words: a proxy speaks for a server that is away.
    const code = status && status < 500 ? 'strange_answer' : 'no_answer';
    return {status: status, code: code, words: say(`problems.${code}`, {server: address, status: status})};
  }

  // Whether the server has judged: asking again would bring the same answer.
  function isFinal(problem) {
    return problem.status >= 400 && problem.status < 500 && ![408, 429].includes(problem.status);
  }

  // Whether that holds for good. A token may be of no use before the widget is installed, and when a browser wakes that
  // has slept: amoCRM gets another one by and by.
  function isForGood(problem) {
    return isFinal(problem) && !problem.code.startsWith('token_');
  }

  // Whether it is what was entered that is refused.
  function isRefusal(problem) {
    return UNUSABLE_ADDRESS.includes(problem.code) || isForGood(problem);
  }

  function openServer(widget, addressNow, say) {
    // `about`: {address, body, query, patience}
    async function ask(method, path, about) {
      const {address = addressNow(), body, query = {}, patience = PATIENCE} = about || {};
      const base = checkedAddress(address, say);
      const url = `${base}${API}${path}?${new URLSearchParams({lang: crmLanguage(), ...query})}`;
      const request = {url: url, method: method, type: method, dataType: 'json', timeout: patience};
      if (body) {
        Object.assign(request, {contentType: 'application/json', data: JSON.stringify(body)});
      }
      try {
        return await widget.$authorizedAjax(request);
      } catch (xhr) {
        throw problemOf(xhr || {}, base, say);
      }
    }

    // A browser says not why there was no answer; whether anything is there at all can be found out.
    async function whyNoAnswer(problem, address) {
      if (problem.code !== 'no_answer' || problem.status) {
        return problem;
      }
      try {
        await fetch(`${checkedAddress(address, say)}/healthz`, {mode: 'no-cors', cache: 'no-store'});
        return {status: 0, code: 'closed_to_us', words: say('problems.closed_to_us', {server: address})};
      } catch (error) {
        return problem;
      }
    }

    return {ask, whyNoAnswer};
  }

  // Calls in words

  function whoIsIn(call, say) {
    return trimmed(call.contact && call.contact.name) || trimmed(call.number) || say('card.withheld');
  }

  function stateOf(call, say) {
    if (call.state === 'ended') {
      return say(`outcomes.${call.outcome}`) || trimmed(call.why) || say('states.ended');
    }
    return (call.direction === 'inbound' && say(`states.${call.state}_inbound`)) || say(`states.${call.state}`);
  }

  const hasFailed = (call) => call.state === 'ended' && !['talked', 'cancelled', 'given_up'].includes(call.outcome);

  // The card: it is on the page only while there are calls

  function openCard(hangUp, say) {
    const calls = new Map();                     // id -> call, as last told
    const closed = new Set();                    // ids of those that are to be seen no more
    let root = null;
    let place = null;                            // of EDGES, where it is
    let ticking = null;
    let talking = false;                         // as amoCRM was told

    function show(call) {
      const known = calls.get(call.id);
      if (closed.has(call.id) || (known && known.version >= call.version)) {
        return;
      }
      const kept = {since: Date.now() - 1000 * (call.talk_seconds || 0), live: Boolean(known && known.live)};
      calls.set(call.id, Object.assign(kept, call));
      if (call.state === 'ended') {
        setTimeout(() => close(call.id), LINGER);
      }
      draw();
    }

    // All calls that there are: others have gone, unless they are just being shown the end of.
    function showOnly(now) {
      const ids = new Set(now.map((call) => call.id));
      Array.from(closed).filter((id) => !ids.has(id)).forEach((id) => closed.delete(id));
      Array.from(calls.values()).filter((call) => call.live && call.state !== 'ended' && !ids.has(call.id))
        .forEach((call) => drop(call.id));
      now.forEach((call) => show(Object.assign({live: true}, call)));
    }

    function drop(id) {
      calls.delete(id);
      draw();
    }

    function close(id) {
      closed.add(id);
      drop(id);
    }

    function draw() {
      tellCrm(Array.from(calls.values()).some((call) => call.state === 'talking'));
      if (calls.size === 0) {
        takeAway();
        return;
      }
      if (root === null) {
        root = element('section', {className: 'smartswitch-card', role: 'status', 'aria-label': say('card.region')});
        document.body.append(root);
      }
      root.replaceChildren(...Array.from(calls.values(), row));
      tick();
      settle();
      ticking = ticking || setInterval(() => { tick(); settle(); }, 1000);
    }

    // While somebody talks amoCRM does not reload the page for an update of its own. Other widgets tell it, too.
    function tellCrm(now) {
      const sdk = crm().sdk;
      if (now !== talking && sdk && sdk.setCallingStatus) {
        sdk.setCallingStatus(now);
      }
      talking = now;
    }

    function remove() {
      calls.clear();
      draw();
    }

    function takeAway() {
      clearInterval(ticking);
      ticking = null;
      if (root !== null) {
        root.remove();
        root = null;
        place = null;
      }
    }

    function row(call) {
      const parts = [element('div', {className: 'smartswitch-card__who'}, [linked(call.contact, whoIsIn(call, say))])];
      if (call.contact && trimmed(call.contact.name) && call.number) {
        parts.push(element('div', {className: 'smartswitch-card__number', textContent: call.number}));
      }
      if (call.deal) {
        const deal = linked(Object.assign({type: 'leads'}, call.deal), trimmed(call.deal.name) || `#${call.deal.id}`);
        parts.push(element('div', {className: 'smartswitch-card__deal'}, [deal]));
      }
      parts.push(element('div', {className: 'smartswitch-card__state'}, [
        element('span', {textContent: stateOf(call, say)}),
        element('span', {className: 'smartswitch-card__clock', role: 'timer'})]));
      if (call.may_hang_up && call.state !== 'ended') {
        parts.push(hangUpButton(call));
      }
      parts.push(element('button', {type: 'button', className: 'smartswitch-card__close', textContent: '×',
        title: say('card.close'), 'aria-label': say('card.close'), onclick: () => close(call.id)}));
      const made = element('div', {className: 'smartswitch-card__call'}, parts);
      made.classList.toggle('smartswitch-card__call_failed', hasFailed(call));
      made.dataset.call = call.id;
      return made;
    }

    function linked(card, text) {
      const page = card && Number.isInteger(card.id) && CARD_PAGES[card.type];
      return page ? element('a', {className: 'js-navigate-link', href: page + card.id, textContent: text}) : text;
    }

    function hangUpButton(call) {
      const button = element('button', {type: 'button', className: 'smartswitch-card__hang-up',
        textContent: say('card.hang_up')});
      button.onclick = () => {
        button.disabled = true;
        hangUp(call).then(show, (problem) => {
          button.disabled = false;
          notify('error', whoIsIn(call, say), problem.words);
        });
      };
      return button;
    }

    function tick() {
      Array.from(root ? root.children : []).forEach((made) => {
        const call = calls.get(made.dataset.call);
        made.querySelector('.smartswitch-card__clock').textContent =
          call.state === 'talking' ? clock((Date.now() - call.since) / 1000) : '';
      });
    }

    // Where it covers least of what can be clicked; in an empty corner, nothing. Pages fill up late, so it is asked
    // again each second; the card stays while it covers nothing, and never flees from the pointer upon it.
    function settle() {
      if (root === null || (place !== null && root.matches(':hover'))) {
        return;
      }
      const controls = Array.from(document.querySelectorAll(CONTROLS)).filter((control) => !root.contains(control))
        .map((control) => control.getBoundingClientRect()).filter((box) => box.width > 0 && box.height > 0);
      const covered = (edge) => {
        put(edge);
        const own = root.getBoundingClientRect();
        return controls.filter((box) => box.left < own.right && own.left < box.right && box.top < own.bottom &&
          own.top < box.bottom).length;
      };
      if (place === null || covered(place) > 0) {
        const counts = EDGES.map(covered);
        place = EDGES[counts.indexOf(Math.min(...counts))];
        put(place);
      }
    }

    function put(edge) {
      ['left', 'right', 'top', 'bottom'].forEach((side) => {
        root.style[side] = side in edge ? `${edge[side]}px` : 'auto';
      });
    }

    return {show, showOnly, drop, settle, remove};
  }

  // One click, one call

  function openCalls(server, card, ownExtension, say) {
    let dialling = false;
    let stops = 0;                               // times that the widget was switched off: nothing is shown after that

    function dial(data) {
      const phone = trimmed(data && data.value).slice(0, LONGEST_NUMBER);
      if (!phone || dialling) {
        return;
      }
      dialling = true;
      const before = stops;
      const placed = place(Object.assign({phone: phone, request: uuid()}, ownExtension(), cardOnScreen()));
      placed.then((call) => follow(call, before), (problem) => notify('error', phone, problem.words));
      Promise.all([placed.catch(() => {}), pause(DOUBLE_CLICK)]).then(() => { dialling = false; });
    }

    // An answer may be lost on its way; the same `request` makes no second call. By `age`, in seconds, the server knows
    // what it may have known before it was started anew, and what comes from a browser that has slept meanwhile.
    async function place(wanted) {
      const clicked = Date.now();
      try {
        return await server.ask('POST', 'calls', {body: wanted});
      } catch (problem) {
        if (problem.code !== 'no_answer') {
          throw problem;
        }
        await pause(ONCE_MORE);
        const age = Math.max(0, Math.ceil((Date.now() - clicked) / 1000));
        return server.ask('POST', 'calls', {body: Object.assign({age: age}, wanted)});
      }
    }

    async function follow(call, before) {
      let told = '';
      let failures = 0;
      while (before === stops) {
        if (call.state !== told) {
          told = call.state;
          notify(hasFailed(call) ? 'error' : 'call', whoIsIn(call, say), stateOf(call, say));
        }
        card.show(call);
        if (call.state === 'ended') {
          return;
        }
        try {
          const next = await server.ask('GET', pathOf(call), {query: {after: call.version}, patience: LONG_PATIENCE});
          failures = 0;
          if (next.version === call.version) {
            await pause(GAP);
          }
          call = next;
        } catch (problem) {
          failures += 1;
          if (before === stops && (isForGood(problem) || failures === MOST_FAILURES)) {
            card.drop(call.id);
            notify('error', whoIsIn(call, say), problem.words);
            return;
          }
          await pause(waitAfter(failures - 1));
        }
      }
    }

    return {dial, stop: () => { stops += 1; }};
  }

  const pathOf = (call) => `calls/${encodeURIComponent(call.id)}`;

  // The employee's calls, whoever began them. Of all open tabs one asks the server, and tells the others.

  function openLive(server, card) {
    const name = `smartswitch-live-${me()}`;     // a tab may be older than who is signed in
    const tabs = openChannel(name);
    let latest = null;                           // what this tab, while it leads, was told last
    let wake = () => {};                         // whoever waits, at the end
    let over = false;

    tabs.onmessage = (event) => {
      if (event.data.calls) {
        card.showOnly(event.data.calls);
      } else if (latest !== null) {
        tabs.postMessage({calls: latest});
      }
    };
    tabs.postMessage({});                        // who leads, tells
    if (navigator.locks) {
      navigator.locks.request(name, () => watch()).catch(() => watch());
    } else {
      watch();
    }

    async function watch() {
      let seen = '';
      let failures = 0;
      while (!over) {
        try {
          const query = seen === '' ? {} : {after: seen};
          const answer = await orEnd(server.ask('GET', 'calls', {query: query, patience: LONG_PATIENCE}));
          if (over) {
            return;
          }
          failures = 0;
          if (answer.version === seen) {
            await orEnd(pause(GAP));
          } else {
            seen = answer.version;
            tell(answer.calls);
          }
        } catch (problem) {
          const isVain = isForGood(problem);     // no extension, or not connected: nothing to see on this page
          if (over) {
            return;
          }
          failures += 1;
          if (isVain || failures >= MOST_FAILURES) {       // nobody knows whether those that are shown go on
            seen = '';
            tell([]);
          }
          if (isVain) {
            return;
          }
          await orEnd(pause(waitAfter(failures - 1)));
        }
      }
    }

    function tell(calls) {
      latest = calls;
      card.showOnly(calls);
      tabs.postMessage({calls: calls});
    }

    function orEnd(promise) {
      return Promise.race([promise, new Promise((resolve) => { wake = resolve; })]);
    }

    return () => {
      over = true;
      wake();
      tabs.close();
    };
  }

  // In a browser without channels, or where a policy forbids them, each tab asks for itself.
  function openChannel(name) {
    try {
      return new BroadcastChannel(name);
    } catch (error) {
      return {postMessage() {}, close() {}};
    }
  }

  // The settings' window

  function openForm(body, saved, say, onTest) {
    const code = saved.widget_code;
    const place = document.getElementById(`${code}_custom_content`) || body.appendChild(element('div'));
    const kept = document.getElementById(`${code}_custom`) || body.querySelector('[name="functions"]');
    const before = Object.assign({[LIVE_CARD]: true}, FUNCTIONS, asObject(saved.functions));
    const boxes = {};
    const touched = new Set();
    const password = element('input', {type: 'password', id: 'smartswitch-password', autocomplete: 'new-password'});
    const button = element('button', {type: 'button', textContent: say('form.test'), onclick: onTest});
    const output = element('p', {className: 'smartswitch-form__output', role: 'status'});

    function choice(name) {
      boxes[name] = element('input', {type: 'checkbox', id: `smartswitch-${name}`, checked: Boolean(before[name])});
      boxes[name].onchange = () => {
        touched.add(name);
        keep();
      };
      return element('div', {className: 'smartswitch-form__choice'}, [
        boxes[name], element('label', {htmlFor: boxes[name].id, textContent: say(`functions.${name}`)}),
        element('p', {textContent: say(`sentences.${name}`)})]);
    }

    // Where amoCRM looks for what it stores.
    function keep() {
      if (kept) {
        setValue(kept, JSON.stringify(chosen()));
      }
    }

    function chosen() {
      return Object.fromEntries(Object.entries(boxes).map(([name, box]) => [name, box.checked]));
    }

    function field(name) {
      return body.querySelector(`[name="${name}"]`);
    }

    function offerServer() {
      const address = field('server_url');
      if (address && !trimmed(address.value)) {
        setValue(address, SERVER);
      }
    }

    // The server's settings may have been changed elsewhere; what the administrator has just touched stays.
    function takeFunctions(functions) {
      const news = Object.keys(FUNCTIONS).filter((name) => name in functions && !touched.has(name) &&
        boxes[name].checked !== Boolean(functions[name]));
      news.forEach((name) => { boxes[name].checked = Boolean(functions[name]); });
      if (news.length > 0) {
        keep();
      }
    }

    function tell(lines, isWell) {
      output.className = `smartswitch-form__output smartswitch-form__output_${isWell ? 'well' : 'ill'}`;
      output.textContent = lines.join('\n');
    }

    place.replaceChildren(element('div', {className: 'smartswitch-form'}, [
      element('label', {htmlFor: password.id, textContent: say('form.password')}), password,
      element('p', {textContent: say('form.password_hint')}), button, output,
      element('h3', {textContent: say('form.functions')}), ...Object.keys(FUNCTIONS).map(choice),
      element('h3', {textContent: say('form.browser')}), choice(LIVE_CARD)]));
    offerServer();
    return {
      chosen, takeFunctions, tell,
      isOpen: () => document.contains(place),
      value: (name) => trimmed((field(name) || {}).value),
      password: () => password.value,
      forgetPassword: () => { password.value = ''; },
    };
  }

  // {"77": "101"} without users that have none, nor those who have left: amoCRM may show no field of theirs to empty
  function extensionsIn(stored) {
    return Object.fromEntries(Object.entries(asObject(stored)).map(([user, extension]) => [user, trimmed(extension)])
      .filter(([user, extension]) => extension && !hasLeft(user)));
  }

  function doublesIn(extensions) {
    const owners = new Map();
    const doubles = [];
    for (const [user, extension] of Object.entries(extensions)) {
      if (owners.has(extension)) {
        doubles.push({extension: extension, first: nameOfUser(owners.get(extension)), second: nameOfUser(user)});
      } else {
        owners.set(extension, user);
      }
    }
    return doubles;
  }

  // As the server wants them, of what amoCRM stores
  function settingsOf(fields, version) {
    const chosen = Object.assign({}, FUNCTIONS, asObject(fields.functions));
    return {
      widget_version: trimmed(version),
      login: trimmed(fields.login),
      functions: Object.fromEntries(Object.keys(FUNCTIONS).map((name) => [name, Boolean(chosen[name])])),
      extensions: extensionsIn(fields.extensions),
    };
  }

  function wantsLiveCard(fields) {
    return asObject(fields.functions)[LIVE_CARD] !== false;
  }

  function resultInWords(answer, say) {
    const missing = answer.crm_connected ? [] : [say('form.not_connected')];
    const works = say('form.works', {client: answer.client, extensions: answer.extensions});
    return [works, ...missing, ...(answer.notes || [])];
  }

  function loadStyle(widget, settings, onload) {
    const path = settings.path || (widget.params && widget.params.path);
    if (path && !document.getElementById('smartswitch-style')) {
      document.head.append(element('link', {id: 'smartswitch-style', rel: 'stylesheet', onload: onload,
        href: `${path}/style.css?v=${encodeURIComponent(widget.get_version())}`}));
    }
  }

  return function () {
    const widget = this;
    let fields = null;                           // as they were saved on this page, newer than what amoCRM gives
    let form = null;
    let stopWatching = null;
    let savings = 0;

    const settings = () => Object.assign({}, widget.get_settings(), fields);
    const server = openServer(widget, () => trimmed(settings().server_url) || SERVER, say);
    const card = openCard((call) => server.ask('DELETE', pathOf(call)), say);
    const calls = openCalls(server, card, ownExtension, say);

    function say(path, values) {
      const [group, name] = path.split('.');
      return filled(trimmed((widget.i18n(group) || {})[name]), values || {});
    }

    // What this page believes: the server goes by the token, and says so if they differ.
    function ownExtension() {
      const extension = extensionsIn(settings().extensions)[me()];
      return extension ? {extension} : {};
    }

    function watchOrNot() {
      if (stopWatching !== null) {
        stopWatching();
        stopWatching = null;
      }
      if (wantsLiveCard(settings())) {
        stopWatching = openLive(server, card);
      }
    }

    async function test() {
      const address = form.value('server_url') || SERVER;
      form.tell([say('form.testing')], true);
      try {
        const body = {login: form.value('login'), password: form.password()};
        const answer = await server.ask('POST', 'check', {address, body});
        form.tell(resultInWords(answer, say), answer.crm_connected);
      } catch (problem) {
        form.tell([(await server.whyNoAnswer(problem, address)).words], false);
      }
    }

    function openSettings($body) {
      form = openForm($body[0] || $body, settings(), say, test);
      if (trimmed(widget.get_settings().login)) {
        server.ask('GET', 'settings').then((known) => form.takeFunctions(known.functions || {}),
          (problem) => form.tell([problem.words], false));
      }
    }

    function complain(words) {
      if (form !== null && form.isOpen()) {
        form.tell([words], false);
      }
      notify('error', say('widget.name'), words);
    }

    // amoCRM keeps the settings whatever the server does: only its "no" holds the saving up.
    async function save(wanted) {
      savings += 1;
      if (form !== null && form.isOpen()) {
        wanted.functions = form.chosen();
      }
      const doubles = doublesIn(extensionsIn(wanted.extensions));
      if (doubles.length > 0) {
        complain(sentences(doubles.slice(0, MOST_NAMED).map((double) => say('problems.doubles', double))));
        throw new Error('doubles');
      }
      const password = form !== null ? form.password() : '';
      const body = Object.assign(password ? {password} : {}, settingsOf(wanted, widget.get_version()));
      try {
        await send(body, trimmed(wanted.server_url) || SERVER);
      } catch (problem) {
        if (isRefusal(problem)) {
          complain(problem.words);
          throw new Error(problem.code);
        }
        complain(sentences([problem.words, say('problems.unsent')]));
        resendLater(body, savings);
      }
      fields = wanted;
      if (form !== null) {
        form.forgetPassword();
      }
      watchOrNot();
      return true;
    }

    async function send(body, address) {
      remember(true);
      try {
        const answer = await server.ask('POST', 'settings', {address, body});
        remember(false);
        notify('call', say('widget.name'), sentences([say('problems.sent'), ...(answer.notes || [])]));
      } catch (problem) {
        if (isRefusal(problem)) {
          remember(false);
        }
        throw await server.whyNoAnswer(problem, address);
      }
    }

    // The password is in this page's memory alone, and until the server has it. A later saving makes this one void.
    async function resendLater(body, saving) {
      for (const wait of RESEND_AFTER) {
        await pause(wait);
        if (saving !== savings || await isDelivered(body)) {
          return;
        }
      }
    }

    async function isDelivered(body) {
      try {
        await send(body, trimmed(settings().server_url) || SERVER);
        return true;
      } catch (problem) {
        if (!isRefusal(problem)) {
          return false;
        }
        const remedy = problem.code === 'password_needed' ? say('problems.password_again') : '';
        notify('error', say('widget.name'), sentences([problem.words, remedy]));
        return true;
      }
    }

    function start() {
      loadStyle(widget, settings(), card.settle);
      widget.add_action('phone', calls.dial);
      $(document).on('page:changed', card.settle);
      $(window).on('resize', card.settle);
      watchOrNot();
      if (isOwed()) {
        isDelivered(settingsOf(settings(), widget.get_version()));
      }
    }

    function stop() {
      savings += 1;
      if (stopWatching !== null) {
        stopWatching();
        stopWatching = null;
      }
      calls.stop();
      card.remove();
      remember(false);
    }

    this.callbacks = {
      render: () => true,
      init: () => {
        start();
        return true;
      },
      bind_actions: () => true,
      settings: ($body) => {
        loadStyle(widget, settings(), card.settle);
        openSettings($body);
      },
      // Nothing may keep anybody from switching the widget off.
      onSave: (cfg) => (cfg && cfg.active === 'N' ? true : save(Object.assign({}, settings(), cfg && cfg.fields))),
      destroy: stop,
    };
    return this;
  };
});
