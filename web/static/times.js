// Shows each <time> in the reader's own zone and manner; the whole date and time stand in its title.
const page = document.documentElement.lang;
const language = navigator.languages.find((own) => own.split("-")[0] === page) ?? page;    // en-GB, not only en

export function showTimes(part) {
  const today = new Date().toDateString();
  for (const time of part.querySelectorAll("time:not([title])")) {
    const moment = new Date(time.dateTime);
    const clock = { hour: "2-digit", minute: "2-digit" };
    const day = moment.toDateString() === today ? {} : { day: "numeric", month: "short" };
    time.textContent = moment.toLocaleString(language, { ...day, ...clock });
    time.title = moment.toLocaleString(language);
  }
}

showTimes(document);
