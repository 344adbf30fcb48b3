/* Serialises HDF5 writes, since the library may not be thread-safe, and forks of the reading process, which must not
 * copy the library in an inconsistent state. */
#ifndef DESCENT_DATA_HDF5_H
#define DESCENT_DATA_HDF5_H

#include <pthread.h>

extern pthread_mutex_t hdf5_library;

#endif
