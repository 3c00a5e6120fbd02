// Load the page's modules, and reload the page when one of them cannot be fetched: a browser gives up the fetches that
// are under way when the machine's network changes, and would show "connecting" for ever.

const AGAIN_MILLISECONDS = 1500;

import(new URL("monitor.js", document.currentScript.src)).catch((error) => {
  console.warn("The page could not be loaded and is loaded again.", error);
  setTimeout(() => location.reload(), AGAIN_MILLISECONDS);
});
