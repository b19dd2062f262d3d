// The script of `misaki ui`: it replaces the changing part of a screen when something came. Everything works without it.

const part = document.getElementById("part");
let isFetching = false;
let isPaused = false;

/** The address of the changing part alone. */
const address = () => {
  const url = new URL(location.href);
  url.searchParams.set("part", "1");
  return url;
};

const refresh = async () => {
  if (isFetching || isPaused || document.hidden) return;
  isFetching = true;
  try {
    const response = await fetch(address());
    if (response.ok) {
      const focused = document.activeElement?.closest("#part [id]")?.id;
      const open = Array.from(part.querySelectorAll("details[id][open]"), (details) => details.id);
      part.innerHTML = await response.text();
      for (const id of open) document.getElementById(id)?.setAttribute("open", "");
      if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    }
  } finally {
    isFetching = false;
  }
};

new EventSource("/live").addEventListener("version", refresh);
