/* What a command prints when it fails, and the exit code that it returns. */
#ifndef DESCENT_CLI_MESSAGES_H
#define DESCENT_CLI_MESSAGES_H

#include <cjson/cJSON.h>
#include <stdbool.h>

#include <descent/descent.h>

/* Documented in `descent --help`. 128 + n: stopped by signal n. */
enum exit_code { EXIT_DONE, EXIT_RUN, EXIT_USAGE, EXIT_DATA, EXIT_DEVICE, EXIT_DIVERGED, EXIT_SIGNAL = 128 };

/* Prints "descent train: <what happened>" on one line of stderr and returns `code`. */
int fail(const char *command, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* One of several ranks: from now on the text of a failure is kept, the last one, instead of printed. `silent`: what is
 * no failure is not printed either. */
void messages_keep(bool silent);
/* Of fail() since messages_keep; "" for none. */
enum { MESSAGES_KEPT = 2048 };
const char *messages_kept(void);
void messages_print_nothing(void); /* of what was kept */
/* Prints what was kept, and from now on everything. */
void messages_print(void);
/* Whether notes and warnings are left to another rank. */
bool messages_silent(void);

/* The exit code that belongs to a status. */
int exit_of(descent_status status);
/* fail() with the library's last error and the exit code that belongs to `status`. */
int fail_status(const char *command, descent_status status);

/* Prints a JSON object on one line, or indented on several, and frees it. `whole` false, or no object: memory ran out
 * while it was made, which is reported. Returns the exit code. */
int print_object(const char *command, cJSON *object, bool whole, bool indented);

#endif
