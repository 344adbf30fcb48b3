/* Shared objects that come with the library and are loaded when they are needed, so that one build of the library runs
 * where what they link is missing. */
#ifndef DESCENT_CORE_MODULE_H
#define DESCENT_CORE_MODULE_H

#include <descent/descent.h>

/* The symbol `name` of the module `file`, which stays loaded until the process exits. It is searched for in
 * DESCENT_BACKEND_PATH alone if that is set; otherwise beside the library, beside the executable, or in the lib directory
 * next to the executable's directory. On failure ERROR_DEVICE, "no <subject>: ..."; `absent` is the text where no file
 * is found. */
descent_status module_load(const char *subject, const char *file, const char *name, const char *absent, void **symbol);
/* ERROR_DEVICE for a module that does not take the library's interface. */
descent_status module_refuse(const char *subject, const char *file);

#endif
