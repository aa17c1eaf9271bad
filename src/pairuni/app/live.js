// Charts and images come and go while a run is followed and models draw.
function dialogs() {
  const host = document.createElement("div");
  host.className = "pairuni";
  document.body.append(host);
  return host;
}

const enlargeable = enlarger(dialogs);
new MutationObserver(() => {
  for (const plot of document.querySelectorAll("[data-chart]:not([data-readable])")) {
    plot.dataset.readable = "";
    readable(plot);
  }
  for (const image of document.querySelectorAll(".pairuni :not(.enlarge) > img.image")) enlargeable(image);
}).observe(document.documentElement, { childList: true, subtree: true });
