/* What makes the library look like a Python module, which it is not: Python builds it, ctypes loads it. */
#include "status.h"

#define IB_VERSION 1 /* of the functions and structures that the headers declare */

IB_API int ib_version(void);
IB_API void *PyInit__bits(void);

int ib_version(void) { return IB_VERSION; }

/* Some linkers want the name. Importing the library tells Python that there is no module. */
void *PyInit__bits(void) { return 0; }
