// Loads the page's modules, and the page anew when one of them could not be fetched: a browser gives up whatever is
// under way when the machine's network changes, and would else show "connecting" for ever.

const AGAIN_MILLISECONDS = 1500;

import(new URL("monitor.js", document.currentScript.src)).catch((error) => {
  console.warn("The page could not be loaded and is loaded again.", error);
  setTimeout(() => location.reload(), AGAIN_MILLISECONDS);
});
