// The filters of the list: a choice applies at once, and empty fields stay out of the address.
const form = document.querySelector("form[data-filters]");

form.addEventListener("formdata", ({ formData }) => {
  for (const [name, value] of [...formData]) if (!value) formData.delete(name);
});
for (const choice of form.querySelectorAll("select, input[type=date]")) {
  choice.addEventListener("change", () => form.requestSubmit());
}
