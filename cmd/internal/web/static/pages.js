// What the pages do beyond htmx. They work without.
"use strict";

// The form for a key tells the zone of this browser.
for (const field of document.querySelectorAll("[data-zone]")) {
  field.value = Intl.DateTimeFormat().resolvedOptions().timeZone || "";
}
