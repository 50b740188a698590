// The days of the filter are those of the reader's zone, not the server's.
for (const zone of document.querySelectorAll("input[name=zone]")) {
  zone.value = Intl.DateTimeFormat().resolvedOptions().timeZone;
}
