// What every page does: times that go on being relative, in the reader's own zone for the pointer.
const STEPS = [[60, 1, "s"], [3600, 60, "min"], [86400, 3600, "h"], [Infinity, 86400, "d"]];

function relative(ahead) {
  const away = Math.abs(ahead);
  if (away < 45) return ahead <= 0 ? "just now" : "in a moment";
  const [, unit, name] = STEPS.find(([most]) => away < most * 0.995);
  const count = Math.max(1, Math.round(away / unit));
  return ahead > 0 ? `in ${count} ${name}` : `${count} ${name} ago`;
}

export function refreshTimes(root = document) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const instant = Date.parse(element.dateTime);
    if (Number.isNaN(instant)) continue;
    element.textContent = relative((instant - Date.now()) / 1000);
    element.title = `${new Date(instant).toLocaleString()} (${element.dateTime})`;
  }
}

refreshTimes();
setInterval(refreshTimes, 20000);
