// Shows values of the line charts at the pointer or, with the arrow keys, at the selected step.
for (const plot of document.querySelectorAll("[data-chart]")) {
  const { points, labels } = JSON.parse(plot.dataset.chart);
  const readout = plot.parentElement.querySelector(".readout");
  const cursor = plot.querySelector(".cursor");
  const dot = plot.querySelector(".dot");
  const last = points.length - 1;
  let at = last;

  function show(index, visible) {
    at = Math.max(0, Math.min(last, index));
    const [x, , y] = points[at];
    const [step, raw, smooth] = labels[at];
    cursor.hidden = dot.hidden = !visible;
    cursor.style.left = dot.style.left = `${x}%`;
    dot.style.bottom = `${y}%`;
    readout.firstChild.data = `step ${step} `;
    readout.querySelector("b").textContent = smooth;
    readout.querySelector("span").textContent = `raw ${raw}`;
    plot.setAttribute("aria-valuenow", at);
    plot.setAttribute("aria-valuetext", `step ${step}: smoothed ${smooth}, raw ${raw}`);
  }

  function nearest(event) {
    const box = plot.getBoundingClientRect();
    const x = (100 * (event.clientX - box.left)) / box.width;
    let low = 0;
    let high = last;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (points[middle][0] < x) low = middle + 1;
      else high = middle;
    }
    return low > 0 && x - points[low - 1][0] < points[low][0] - x ? low - 1 : low;
  }

  plot.addEventListener("pointermove", (event) => show(nearest(event), true));
  plot.addEventListener("pointerdown", (event) => show(nearest(event), true));
  plot.addEventListener("pointerleave", () => show(last, document.activeElement === plot));
  plot.addEventListener("focus", () => show(at, plot.matches(":focus-visible")));
  plot.addEventListener("blur", () => show(last, false));
  plot.addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.round(points.length / 10));
    const moves = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -page, PageUp: page };
    if (event.key in moves) show(at + moves[event.key], true);
    else if (event.key === "Home") show(0, true);
    else if (event.key === "End") show(last, true);
    else return;
    event.preventDefault();
  });
}
