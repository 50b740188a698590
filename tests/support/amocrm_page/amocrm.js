// What a widget meets in amoCRM's pages, as far as ours needs it: an AMD loader, a little of jQuery, the base object, APP, the settings'
// window made from the manifest, and numbers to click on. What it does not have, amoCRM may not have either: it throws.
'use strict';

const bench = {notifications: [], callingStatus: [], actions: {}, refused: null, saves: 0, started: false};
const asked = new URLSearchParams(location.search);
const realTimeout = window.setTimeout.bind(window);
const hurry = Number(asked.get('hurry') || 1);       // the widget's own pauses, so many times as short
window.setTimeout = (run, wait, ...values) => realTimeout(run, (wait || 0) / hurry, ...values);

function $(what) {
  const found = typeof what === 'string' ? [...document.querySelectorAll(what)] : [what];
  return Object.assign(found, {
    on: (event, run) => { found.forEach((one) => one.addEventListener(event, run)); },
    html: (text) => { found.forEach((one) => { one.innerHTML = text; }); },
    find: (selector) => $(found[0].querySelector(selector)),
    val: () => found[0].value,
  });
}

// As jQuery does it: the options, and what its promise gives.
$.ajax = function (options) {
  return new Promise((done, fail) => {
    const request = new XMLHttpRequest();
    request.open(options.type || 'GET', options.url);
    Object.entries(options.headers || {}).forEach(([name, value]) => request.setRequestHeader(name, value));
    if (options.contentType) request.setRequestHeader('Content-Type', options.contentType);
    request.timeout = options.timeout || 0;
    request.onloadend = () => {
      const well = request.status >= 200 && request.status < 300;
      let answer = null;
      try {
        answer = request.responseText ? JSON.parse(request.responseText) : undefined;
      } catch (error) {
        fail(request);
        return;
      }
      if (well) done(answer); else fail(request);
    };
    request.send(options.data);
  });
};

let token = null;                                    // amoCRM keeps one for many requests, too
async function authorizedAjax(options) {
  token = token || (await (await fetch('/token', {method: 'POST'})).json()).token;
  return $.ajax({...options, headers: {...options.headers, 'X-Auth-Token': token}});
}

function makeApp(state) {
  return {
    lang_id: state.language,
    constant: (name) => ({user: {id: state.user}, account: {id: state.account, subdomain: 'acme'}, managers: state.managers})[name],
    isCard: () => Boolean(state.card),
    getBaseEntity: () => state.card.type,
    data: {current_card: state.card ? {id: state.card.id} : false},
    notifications: {
      show_notification: (shown) => {
        bench.notifications.push({type: shown.type, ...shown.text});
        const line = document.createElement('div');
        line.className = shown.type;
        line.innerHTML = `<b>${shown.text.header}</b> ${shown.text.text}`;         // amoCRM takes HTML
        document.querySelector('#notifications').append(line);
      },
    },
    sdk: {setCallingStatus: (talking) => bench.callingStatus.push(talking)},
  };
}

function makeBase(state, manifest, words) {
  return {
    params: {path: '/widget', widget_code: state.code},
    langs: words,
    i18n: (name) => words[name],
    get_version: () => manifest.widget.version,
    get_install_status: () => state.status,
    get_settings: () => ({...state.saved, widget_code: state.code, path: '/widget', version: manifest.widget.version}),
    set_settings: (more) => Object.assign(state.saved, more),
    system: () => ({amouser_id: state.user, subdomain: 'acme', domain: 'amocrm.ru', area: 'everywhere'}),
    add_action: (name, run) => { bench.actions[name] = run; },
    $authorizedAjax: authorizedAjax,
  };
}

// The settings' window: a field for each of the manifest, Save, and Off once it is installed

function openWindow(widget, state, manifest, words) {
  const shown = document.createElement('div');
  shown.id = 'window';
  document.querySelector('#window')?.remove();
  document.body.append(shown);
  for (const [name, field] of Object.entries(manifest.settings)) {
    const [group, key] = field.name.split('.');
    shown.insertAdjacentHTML('beforeend', `<label>${words[group][key]}</label>`);
    shown.append(...fieldsOf(name, field.type, state));
  }
  addButton(shown, 'save', () => save(widget, state, manifest, 'Y'));
  addButton(shown, 'off', () => save(widget, state, manifest, 'N'));
  widget.callbacks.settings($(shown));
}

function fieldsOf(name, type, state) {
  const input = (named, value, kind) => Object.assign(document.createElement('input'), {name: named, value: value || '', type: kind});
  if (type === 'text') return [input(name, state.saved[name], 'text')];
  if (type === 'custom') {
    const hidden = Object.assign(input(name, state.saved[name], 'hidden'), {id: `${state.code}_custom`});
    hidden.addEventListener('change', () => { bench.changed = true; });
    return [Object.assign(document.createElement('div'), {id: `${state.code}_custom_content`}), hidden];
  }
  const saved = JSON.parse(state.saved[name] || '{}');
  return Object.entries(state.managers).flatMap(([id, user]) => [
    Object.assign(document.createElement('span'), {textContent: user.title}), input(`${name}[${id}]`, saved[id], 'text')]);
}

function addButton(shown, name, press) {
  shown.append(Object.assign(document.createElement('button'), {id: name, textContent: name, onclick: press}));
}

function valuesOf(manifest, state) {
  const value = (name) => document.querySelector(`#window [name="${name}"]`).value;
  return Object.fromEntries(Object.entries(manifest.settings).map(([name, field]) => [name, field.type !== 'users' ? value(name)
    : Object.fromEntries(Object.keys(state.managers).map((id) => [id, value(`${name}[${id}]`)]))]));
}

async function save(widget, state, manifest, active) {
  const fields = valuesOf(manifest, state);
  bench.refused = null;
  try {
    if (await widget.callbacks.onSave({active, fields}) !== true) throw new Error('not true');
  } catch (error) {
    bench.refused = error.message;
    return;
  }
  // Every named field is kept, users as JSON; a custom one only if it is JSON.
  JSON.parse(fields.functions || '{}');
  state.saved = {...fields, extensions: JSON.stringify(fields.extensions)};
  state.status = active === 'Y' ? 'installed' : 'install';
  await fetch('/saved', {method: 'POST', body: JSON.stringify({saved: state.saved, status: state.status})});
  if (active === 'N') widget.callbacks.destroy();
  document.querySelector('#window').remove();
  bench.saves += 1;
}

function showPhones(state, words) {
  for (const number of state.phones) {
    const item = document.createElement('li');
    const link = Object.assign(document.createElement('a'), {href: '#', textContent: number});
    const entry = Object.assign(document.createElement('button'), {className: 'call', textContent: words.widget.call_action});
    entry.onclick = () => bench.actions.phone({value: number});
    item.append(link, ' ', entry);
    document.querySelector('#phones').append(item);
  }
  if (asked.has('busy-corner')) {
    document.body.append(Object.assign(document.createElement('button'), {className: 'corner', textContent: 'Help'}));
  }
}

async function start() {
  const state = await (await fetch('/state')).json();
  const manifest = await (await fetch('/widget/manifest.json')).json();
  const words = await (await fetch(`/widget/i18n/${state.language}.json`)).json();
  window[state.global] = makeApp(state);
  window.define = (names, make) => {
    const modules = {jquery: $};
    const Widget = make(...names.map((name) => {
      if (!(name in modules)) throw new Error(`no module ${name}`);
      return modules[name];
    }));
    const widget = makeBase(state, manifest, words);
    Widget.call(widget);
    if (widget.callbacks.render() !== true) return;
    const init = widget.callbacks.init();
    bench.started = widget.callbacks.bind_actions() === true && init === true;
    document.querySelector('#open').onclick = () => openWindow(widget, state, manifest, words);
    showPhones(state, words);
  };
  document.head.append(Object.assign(document.createElement('script'), {src: '/widget/script.js'}));
}

start();
