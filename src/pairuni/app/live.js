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

// An uploaded image is shown as results are: one of few pixels without smoothing.
document.addEventListener(
  "load",
  (event) => {
    const image = event.target;
    if (image.closest?.(".uploaded")) {
      image.classList.toggle("crisp", Math.max(image.naturalWidth, image.naturalHeight) <= CRISP);
    }
  },
  true,
);

// Ctrl+V gives the images of the clipboard to the tab that is shown. Unlike gradio's button, it needs no TLS when the page
// comes from another machine.
document.addEventListener("paste", (event) => {
  const images = [...event.clipboardData.files].filter((file) => file.type.startsWith("image/"));
  const input = [...document.querySelectorAll(".uploaded input[type=file]")].find((one) =>
    one.closest(".uploaded").checkVisibility(),
  );
  const text = event.target.closest("input, textarea") && event.clipboardData.types.includes("text/plain");
  if (!images.length || !input || text) return;
  const chosen = new DataTransfer();
  for (const image of input.multiple ? images : images.slice(0, 1)) chosen.items.add(image);
  input.files = chosen.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
  event.preventDefault();
});
