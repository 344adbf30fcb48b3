/* One lock round writing HDF5, whose library may be built without threads in mind, and round the start of a process
 * that reads it: what that process finds of the library must not be half-way through something. */
#ifndef DESCENT_DATA_HDF5_H
#define DESCENT_DATA_HDF5_H

#include <pthread.h>

extern pthread_mutex_t hdf5_library;

#endif
