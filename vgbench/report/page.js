
// The one thing that needs a script: words that filter the gallery, among the cards that the buttons leave.
(() => {
  const box = document.getElementById("filter");
  if (!box) return;
  const said = document.getElementById("filtered");
  const cards = [...document.querySelectorAll(".card")];
  const texts = cards.map((card) =>
    [card.textContent, ...[...card.querySelectorAll("figure")].map((figure) => figure.title)].join(" ").toLowerCase());
  const filter = () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    cards.forEach((card, index) => {
      const out = !words.every((word) => texts[index].includes(word));
      card.classList.toggle("filtered", out);
      if (!out) shown += 1;
    });
    said.textContent = words.length ? `${shown} of ${cards.length}` : "";
  };
  box.addEventListener("input", filter);
  box.parentElement.hidden = false;
  filter();
})();
