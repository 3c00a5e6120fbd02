// Swagger UI for the monitor's own description; it validates and fetches nothing at other sites.
const place = document.getElementById("swagger-ui");
const dark = window.matchMedia("(prefers-color-scheme: dark)");

function followColourScheme() {
  document.documentElement.classList.toggle("dark-mode", dark.matches);
}

followColourScheme();
dark.addEventListener("change", followColourScheme);
window.SwaggerUIBundle({
  domNode: place,
  url: place.dataset.openapi,
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  presets: [window.SwaggerUIBundle.presets.apis],
  validatorUrl: null,
});
