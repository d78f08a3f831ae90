"use strict";

// Enlarges a picture, beside its target if it is a sample.
const zoom = document.getElementById("zoom");
const pictures = [...document.querySelectorAll("main .picture")];
let current = 0;

function figure(image, words) {
  const own = document.createElement("figure");
  const copy = document.createElement("img");
  copy.src = image.src;
  copy.alt = image.alt;
  const caption = document.createElement("figcaption");
  caption.textContent = words;
  own.append(copy, caption);
  return own;
}

function enlarge(index) {
  current = (index + pictures.length) % pictures.length;
  const image = pictures[current].querySelector("img");
  const target = pictures[current].closest(".samples")?.parentElement.querySelector(".target img");
  const shown = target ? [figure(target, "target"), figure(image, "sample")] : [figure(image, "")];
  if (image.naturalWidth > 1.6 * image.naturalHeight || image.closest(".whole, .card")) {
    shown[0].className = "alone";
  }
  zoom.querySelector(".enlarged").replaceChildren(...shown);
  zoom.querySelector(".caption").textContent = image.alt;
  if (!zoom.open) {
    zoom.showModal();
  }
}

pictures.forEach((each, index) => each.addEventListener("click", () => enlarge(index)));
zoom.addEventListener("click", () => zoom.close());
zoom.addEventListener("close", () => pictures[current].focus({ preventScroll: true }));
zoom.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step) {
    event.preventDefault();
    enlarge(current + step);
  }
});

// Sorts a table by the column of the heading that is clicked; a second click turns the order round. Empty cells are last.
function sortBy(table, column, heading) {
  const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  const value = (row) => row.cells[column].dataset.value;
  const compare = (a, b) => {
    const [left, right] = [value(a), value(b)];
    if (left === "" || right === "") {
      return (left === "") - (right === "");
    }
    const numbers = heading.classList.contains("number");
    return sign * (numbers ? Number(left) - Number(right) : left.localeCompare(right));
  };
  table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
  table.querySelectorAll("thead th").forEach((each) => each.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
}

document.querySelectorAll("table.sortable").forEach((table) => {
  table.querySelectorAll("thead th").forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => sortBy(table, column, heading));
  });
});

document.querySelectorAll("input[data-more]").forEach((box) => {
  const table = document.getElementById(box.dataset.more);
  const apply = () => table.classList.toggle("short", !box.checked);
  box.addEventListener("change", apply);
  apply();
});

// Shows the name of the point under the pointer, above all other points.
document.querySelectorAll(".plot svg").forEach((plot) => {
  const label = plot.querySelector(".hover");
  const hide = () => {
    label.style.visibility = "hidden";
    plot.classList.remove("pointed");
  };
  plot.querySelectorAll("a").forEach((point) => {
    const show = () => {
      const circle = point.querySelector("circle");
      const right = circle.cx.baseVal.value > plot.viewBox.baseVal.width / 2;
      label.textContent = point.querySelector("title").textContent;
      label.setAttribute("x", circle.cx.baseVal.value + (right ? -10 : 10));
      label.setAttribute("y", circle.cy.baseVal.value - 8);
      label.setAttribute("text-anchor", right ? "end" : "start");
      label.style.visibility = "visible";
      plot.classList.add("pointed");
    };
    point.addEventListener("pointerenter", show);
    point.addEventListener("focus", show);
    point.addEventListener("pointerleave", hide);
    point.addEventListener("blur", hide);
  });
});
