for (const plot of document.querySelectorAll("[data-chart]")) readable(plot);
const enlargeable = enlarger(() => document.body);
for (const image of document.querySelectorAll("img.image")) enlargeable(image);
