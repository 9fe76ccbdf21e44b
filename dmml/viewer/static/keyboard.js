// Keys of the whole page. Arrows are left to the form elements that use them.

const PAN = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Call the actions for the keys that the user presses. */
export function listenToKeys(actions) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const inForm = event.target.matches?.("input, select, textarea");
    const inPanel = event.target.closest?.("#panel");
    const action = actionFor(event.key, actions, inForm, inPanel);
    if (action === null) return;
    action();
    event.preventDefault();
  });
}

function actionFor(key, actions, inForm, inPanel) {
  if (key in PAN) return inForm || inPanel ? null : () => actions.pan(...PAN[key]);
  if (key === "Enter") return inForm || document.activeElement?.matches("button, a") ? null : actions.readCentre;
  if (/^[1-9]$/.test(key)) return () => actions.layer(Number(key) - 1);
  return {
    "+": () => actions.zoom(1.5), "=": () => actions.zoom(1.5), "-": () => actions.zoom(1 / 1.5), "_": () => actions.zoom(1 / 1.5),
    "0": actions.toggle, "[": () => actions.opacity(-10), "]": () => actions.opacity(10), "?": actions.help,
    h: actions.whole, m: actions.magnification, n: () => actions.step(1), p: () => actions.step(-1),
  }[key] ?? null;
}
