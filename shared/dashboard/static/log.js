// A log: new lines at its end, and a search in what is shown. Lines are text; the server has taken colours apart.
const MOST = 5000; // lines that are kept

export function appendLines({ machine, lines }) {
  const log = document.querySelector("pre[data-log]");
  if (!log || log.dataset.log !== machine) return;
  const follows = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  const added = document.createDocumentFragment();
  for (const line of lines) {
    const row = document.createElement("span");
    row.className = "line";
    for (const [text, style] of line) {
      const piece = document.createElement("span");
      piece.className = style;
      piece.textContent = text;
      row.append(piece);
    }
    row.append("\n");
    added.append(row);
  }
  log.append(added);
  log.hidden = false;
  while (log.children.length > MOST) log.firstElementChild.remove();
  document.querySelector("[data-log-empty]")?.remove();
  filter(log);
  if (follows) log.scrollTop = log.scrollHeight;
}

function filter(log) {
  const field = log.parentElement.querySelector("[data-log-search]");
  if (!field) return;
  const wanted = field.value.toLowerCase();
  let found = 0;
  for (const line of log.children) {
    const shown = !wanted || line.textContent.toLowerCase().includes(wanted);
    line.hidden = !shown;
    found += shown ? 1 : 0;
  }
  log.parentElement.querySelector("[data-log-found]").textContent = wanted ? `${found} lines` : "";
}

function addSearch(log) {
  const head = log.parentElement.querySelector(".card-head");
  if (!head) return;
  const field = document.createElement("input");
  field.type = "search";
  field.placeholder = "Search";
  field.setAttribute("aria-label", "Show only the lines of the log with this text");
  field.dataset.logSearch = "";
  const found = document.createElement("span");
  found.className = "muted";
  found.setAttribute("role", "status");
  found.dataset.logFound = "";
  head.append(field, found);
  field.addEventListener("input", () => filter(log));
}

for (const log of document.querySelectorAll("section > pre.log")) {
  addSearch(log);
  if (!log.classList.contains("tall")) log.scrollTop = log.scrollHeight;
}
