/* The version of this build, of its compiler, and of the libraries loaded at run time. */
#include <cjson/cJSON.h>
#include <csv.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#ifdef DESCENT_FORMATS_BUILT
#include <protobuf-c/protobuf-c.h>
#include <zip.h>
#include <zlib.h>
#endif
#ifdef DESCENT_HDF5_BUILT
#include <hdf5.h>
#endif

#include "descent/descent.h"

/* Weak, so that another CBLAS links too. */
__attribute__((weak)) char *openblas_get_config(void);

#ifdef __clang__
static const char compiler[] = "clang " __clang_version__;
#else
static const char compiler[] = "gcc " __VERSION__;
#endif

#ifdef DESCENT_CUDA_BUILT
static const char cuda[] = "built with " DESCENT_CUDA_BUILT;
#else
static const char cuda[] = "not built";
#endif

#ifdef DESCENT_MPI_BUILT
static const char mpi[] = "built with " DESCENT_MPI_BUILT;
#else
static const char mpi[] = "not built";
#endif

#ifdef DESCENT_FORMATS_BUILT
static void write_hdf5(char *text, size_t size) {
#ifdef DESCENT_HDF5_BUILT
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  snprintf(text, size, "HDF5 %u.%u.%u", major, minor, release);
#else
  snprintf(text, size, "HDF5: not built");
#endif
}

static void write_formats(char *text, size_t size) {
  char hdf5[40];
  write_hdf5(hdf5, sizeof hdf5);
  snprintf(text, size, "protobuf-c %s; libzip %s; zlib %s; %s", protobuf_c_version(), zip_libzip_version(),
           zlibVersion(), hdf5);
}
#else
static void write_formats(char *text, size_t size) { snprintf(text, size, "formats: not built"); }
#endif

static char version[384]; /* written once, by the first call */

static void write_version(void) {
  const char *blas = openblas_get_config ? openblas_get_config() : DESCENT_BLAS;
  char formats[128];
  write_formats(formats, sizeof formats);
  size_t words = strcspn(blas, " "); /* two of "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH ..." */
  if (blas[words]) words += 1 + strcspn(blas + words + 1, " ");
  snprintf(version, sizeof version, "%s (cpu: %.*s; cuda: %s; mpi: %s; cJSON %s; libcsv %d.%d.%d; %s; %s)",
           DESCENT_VERSION, (int)words, blas, cuda, mpi, cJSON_Version(), CSV_MAJOR, CSV_MINOR, CSV_RELEASE, formats,
           compiler);
}

const char *descent_version(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, write_version);
  return version;
}

int descent_version_number(void) { return DESCENT_VERSION_NUMBER; }
