// What needs a script: words that filter the gallery, pictures that enlarge, links to queries that are filtered out.
(() => {
  const box = document.getElementById("filter");
  if (!box) return;
  const said = document.getElementById("filtered");
  const buttons = [...document.querySelectorAll('input[name="show"]')];
  const cards = [...document.querySelectorAll(".card")];
  // The query's own name and what became of it: those of its predictions would match a word too often.
  const texts = cards.map((card) => card.querySelector("header").textContent.toLowerCase());
  const kinds = { "show-hits": "hit", "show-misses": "miss" };
  const filter = () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = buttons.find((button) => button.checked);
    const kind = chosen && kinds[chosen.id];
    let shown = 0;
    let all = 0;
    cards.forEach((card, index) => {
      const out = !words.every((word) => texts[index].includes(word));
      card.classList.toggle("filtered", out);
      if (kind && !card.classList.contains(kind)) return;
      all += 1;
      if (!out) shown += 1;
    });
    said.textContent = words.length ? `${shown} of ${all}` : "";
  };
  box.addEventListener("input", filter);
  buttons.forEach((button) => button.addEventListener("change", filter));
  box.parentElement.hidden = false;
  filter();

  const goTo = () => {
    const card = cards.find((one) => `#${one.id}` === location.hash);
    if (!card || getComputedStyle(card).display !== "none") return;
    box.value = "";
    if (buttons.length) buttons[0].checked = true;
    filter();
    card.scrollIntoView();
  };
  addEventListener("hashchange", goTo);

  const large = document.createElement("dialog");
  large.className = "large";
  document.body.append(large);
  let current = null;
  const enlarge = (figure) => {
    current = figure;
    const query = figure.parentElement.querySelector(".query");
    const beside = figure === query || figure.matches(".matches") ? [figure] : [query, figure];
    large.replaceChildren(...beside.map((one) => {
      const copy = one.cloneNode(true);
      const name = document.createElement("p");
      name.className = "name";
      name.textContent = one.title;
      copy.append(name);
      return copy;
    }));
    if (!large.open) large.showModal();
  };
  document.addEventListener("click", (event) => {
    if (event.target.closest("dialog")) large.close();
    else if (event.target.closest(".enlarge")) enlarge(event.target.closest("figure"));
  });
  large.addEventListener("keydown", (event) => {
    const next = { ArrowRight: "nextElementSibling", ArrowLeft: "previousElementSibling" }[event.key];
    if (next && current[next]) enlarge(current[next]);
  });
})();
