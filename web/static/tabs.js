// On a narrow screen the tabs are scrolled: to the one whose page this is.
const here = document.querySelector(".tabs [aria-current]");

function show() {
  const list = here.closest("ul");
  const [tab, row] = [here, list].map((one) => one.getBoundingClientRect());
  list.scrollLeft += tab.left + tab.width / 2 - row.left - row.width / 2;
}

if (here !== null) {
  show();
  addEventListener("resize", show);
}
