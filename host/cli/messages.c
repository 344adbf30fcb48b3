/* One line of stderr and an exit code for every failure. */
#include "cli/messages.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "report/text.h"

static struct {
  bool keeps, silent;
  const char *command; /* of the text */
  char text[MESSAGES_KEPT];
} kept;

void messages_keep(bool silent) {
  kept.keeps = true;
  kept.silent = silent;
}

const char *messages_kept(void) { return kept.text; }

void messages_print_nothing(void) { *kept.text = '\0'; }

void messages_print(void) {
  if (*kept.text) text_print(stderr, "%s: %s\n", kept.command, kept.text);
  kept.keeps = kept.silent = false;
  messages_print_nothing();
}

bool messages_silent(void) { return kept.silent; }

int fail(const char *command, int code, const char *format, ...) {
  char text[16384]; /* three paths; not allocated, since the failure may be a lack of memory */
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  if (kept.keeps && code != EXIT_DONE) {
    kept.command = command;
    snprintf(kept.text, sizeof kept.text, "%.*s", MESSAGES_KEPT - 1, text);
  } else if (!kept.silent) {
    text_print(stderr, "%s: %s\n", command, text);
  }
  return code;
}

int exit_of(descent_status status) {
  static const int codes[] = {
      [DESCENT_OK] = EXIT_DONE,
      [DESCENT_ERROR_MEMORY] = EXIT_RUN,
      [DESCENT_ERROR_ARGUMENT] = EXIT_USAGE,
      [DESCENT_ERROR_READ] = EXIT_DATA,
      [DESCENT_ERROR_WRITE] = EXIT_RUN,
      [DESCENT_ERROR_DATA] = EXIT_DATA,
      [DESCENT_ERROR_MODEL] = EXIT_DATA,
      [DESCENT_ERROR_DEVICE] = EXIT_DEVICE,
      [DESCENT_ERROR_UNSUPPORTED] = EXIT_DEVICE,
      [DESCENT_ERROR_DIVERGED] = EXIT_DIVERGED,
      [DESCENT_ERROR_INTERNAL] = EXIT_RUN,
      [DESCENT_ERROR_CANCELLED] = EXIT_RUN,
  };
  return codes[status];
}

int fail_status(const char *command, descent_status status) {
  const char *text = descent_last_error();
  /* An allocation of the command's own leaves the library's text as it was. */
  if (status == DESCENT_ERROR_MEMORY && !strstr(text, "memory") && !strstr(text, "allocate"))
    text = descent_status_text(status);
  return fail(command, exit_of(status), "%s", *text ? text : descent_status_text(status));
}

int print_object(const char *command, cJSON *object, bool whole, bool indented) {
  char *text = NULL;
  if (object && whole) text = text_json(object, indented);
  cJSON_Delete(object);
  if (!text) return fail(command, EXIT_RUN, "out of memory");
  puts(text);
  cJSON_free(text);
  return EXIT_DONE;
}
