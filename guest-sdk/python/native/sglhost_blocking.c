/* The one thing that blocking programs need and componentize-py does not offer: the component model's
 * `waitable-set.wait`, as a Python module. componentize-py links it in, as it does any extension module that it finds.
 *
 * `README.md` says how it is compiled. It wants no headers of Python's: the little that it calls is part of Python's
 * stable ABI, and declared here.
 */

typedef struct _object PyObject;
typedef int Py_ssize_t;

typedef struct {
    const char *name;
    PyObject *(*function)(PyObject *self, PyObject *argument);
    int flags;
    const char *doc;
} PyMethodDef;

typedef struct {
    struct { Py_ssize_t references; void *type; } head;
    PyObject *(*init)(void);
    Py_ssize_t index;
    PyObject *copy;
    const char *name;
    const char *doc;
    Py_ssize_t size;
    PyMethodDef *methods;
    void *slots, *traverse, *clear, *free;
} PyModuleDef;

#define METH_O 8
#define PYTHON_ABI_VERSION 3

unsigned long PyLong_AsUnsignedLong(PyObject *number);
PyObject *PyErr_Occurred(void);
PyObject *Py_BuildValue(const char *format, ...);
PyObject *PyModule_Create2(PyModuleDef *module, int abi_version);

/* Waits until a waitable of the set has an event. Returns the event's kind, and writes the waitable and the payload. */
__attribute__((import_module("$root"), import_name("[waitable-set-wait]")))
unsigned waitable_set_wait(unsigned set, unsigned waitable_and_payload[2]);

static PyObject *wait(PyObject *self, PyObject *argument) {
    unsigned long set = PyLong_AsUnsignedLong(argument);
    if (PyErr_Occurred()) return 0;
    unsigned event[2];
    unsigned kind = waitable_set_wait(set, event);
    return Py_BuildValue("III", kind, event[0], event[1]);
}

static PyMethodDef methods[] = {
    {"wait", wait, METH_O, "Waits for an event of a waitable set: its kind, its waitable, its payload."},
    {0},
};

static PyModuleDef module = {
    .head = {1, 0},
    .name = "sglhost_blocking",
    .doc = "The component model's waitable-set.wait.",
    .size = -1,
    .methods = methods,
};

__attribute__((visibility("default"))) PyObject *PyInit_sglhost_blocking(void) {
    return PyModule_Create2(&module, PYTHON_ABI_VERSION);
}
