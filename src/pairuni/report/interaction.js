// Charts: values at the pointer or, with the arrow keys, at the selected step.
function number(value) {
  if (value < 0) return "−" + number(-value);
  if (value === 0) return "0";
  if (value >= 1e12) return Number(value.toPrecision(3)).toExponential();
  if (value >= 999.5) return Math.round(value).toLocaleString("en-US");
  if (value < 0.001) return value.toExponential(1).replace(".0e", "e");
  return String(Number(value.toPrecision(3)));
}

// The index of the number in a rising list that is nearest to ``wanted``.
function nearest(list, wanted) {
  let low = 0;
  let high = list.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle] < wanted) low = middle + 1;
    else high = middle;
  }
  return low > 0 && wanted - list[low - 1] < list[low] - wanted ? low - 1 : low;
}

function percent(value, [low, high]) {
  return high > low ? (100 * (value - low)) / (high - low) : 50;
}

function readable(plot) {
  const chart = JSON.parse(plot.dataset.chart);
  const { lines } = chart;
  const steps = [...new Set(lines.flatMap((line) => line.steps))].sort((a, b) => a - b);
  const readout = plot.parentElement.querySelector(".readout");
  const shown = [...readout.querySelectorAll("b")];
  const cursor = plot.querySelector(".cursor");
  const dots = [...plot.querySelectorAll(".dot")];
  const smoothly = lines.length > 1 && lines.some((line) => line.smooth) ? ", smoothed" : "";
  const last = steps.length - 1;
  let at = last;

  function show(index, visible) {
    at = Math.max(0, Math.min(last, index));
    const step = steps[at];
    cursor.hidden = !visible;
    cursor.style.left = `${percent(step, chart.x)}%`;
    const said = lines.map((line, row) => {
      const place = nearest(line.steps, step);
      const own = line.steps[place];
      const trend = (line.smooth ?? line.values)[place];
      dots[row].hidden = !visible;
      dots[row].style.left = `${percent(own, chart.x)}%`;
      dots[row].style.bottom = `${percent(trend, chart.y)}%`;
      const value = number(lines.length > 1 ? trend : line.values[place]);
      const smooth = lines.length === 1 && line.smooth ? `, smoothed ${number(trend)}` : "";
      const more = smooth + (own === step ? "" : ` at ${number(own)}`);
      shown[row].textContent = value;
      shown[row].nextElementSibling.textContent = more;
      return `${line.name} ${value}${more}`.trim();
    });
    readout.firstElementChild.textContent = `step ${number(step)}${smoothly}`;
    plot.setAttribute("aria-valuenow", at);
    plot.setAttribute("aria-valuetext", `step ${number(step)}${smoothly}: ${said.join(", ")}`);
  }

  function pointed(event) {
    const box = plot.getBoundingClientRect();
    const [first, end] = chart.x;
    return nearest(steps, first + ((end - first) * (event.clientX - box.left)) / box.width);
  }

  plot.addEventListener("pointermove", (event) => show(pointed(event), true));
  plot.addEventListener("pointerdown", (event) => show(pointed(event), true));
  plot.addEventListener("pointerleave", () => show(last, document.activeElement === plot));
  plot.addEventListener("focus", () => show(at, plot.matches(":focus-visible")));
  plot.addEventListener("blur", () => show(last, false));
  plot.addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.round(steps.length / 10));
    const moves = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -page, PageUp: page };
    if (event.key in moves) show(at + moves[event.key], true);
    else if (event.key === "Home") show(0, true);
    else if (event.key === "End") show(last, true);
    else return;
    event.preventDefault();
  });
}

// Images: a click shows one as large as the window allows; the arrow keys go through those of its section.
// The result prepares an image. host: gives the element that the dialog is added to.
function enlarger(host) {
  let dialog;
  let group = [];
  let place = 0;
  const large = document.createElement("img");
  const caption = document.createElement("p");

  function prepared() {
    if (dialog) return dialog;
    dialog = document.createElement("dialog");
    dialog.className = "enlarged";
    const close = document.createElement("button");
    close.type = "button";
    close.textContent = "Close";
    dialog.append(large, caption, close);
    host().append(dialog);
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog || event.target === close) dialog.close();
    });
    dialog.addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft") enlarge(place - 1);
      else if (event.key === "ArrowRight") enlarge(place + 1);
      else return;
      event.preventDefault();
    });
    return dialog;
  }

  function enlarge(index) {
    place = (index + group.length) % group.length;
    const image = group[place];
    // An image that has not been in view is not loaded yet, so its natural size is unknown.
    const [width, height] = ["width", "height"].map((side) => Number(image.getAttribute(side)));
    const crisp = image.classList.contains("crisp");
    const room = Math.min((window.innerWidth * 0.92) / width, (window.innerHeight * 0.8) / height);
    large.width = width * (crisp && room > 1 ? Math.floor(room) : Math.min(room, 2));
    large.className = crisp ? "crisp" : "";
    large.src = image.src;
    large.alt = image.alt;
    caption.textContent = group.length > 1 ? `${place + 1} of ${group.length}: ${image.alt}` : image.alt;
  }

  return (image) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "enlarge";
    button.title = "Enlarge";
    image.replaceWith(button);
    button.append(image);
    button.addEventListener("click", () => {
      group = [...(button.closest("section") ?? document).querySelectorAll("img.image")];
      enlarge(group.indexOf(image));
      prepared().showModal();
    });
  };
}
