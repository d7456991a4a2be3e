//! libc's own functions, for hooks that do something before or after them.

use core::ffi::{CStr, c_char, c_void};
use core::sync::atomic::{AtomicPtr, Ordering};

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// The function of a name that comes after the layer's, looked up once.
pub(crate) struct Next {
    name: &'static CStr,
    found: AtomicPtr<c_void>,
}

impl Next {
    pub(crate) const fn new(name: &'static CStr) -> Self {
        Self {
            name,
            found: AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    /// Null where this libc has none: then the app could not have called it either.
    pub(crate) fn function(&self) -> *mut c_void {
        let found = self.found.load(Ordering::Relaxed);
        if !found.is_null() {
            return found;
        }
        // SAFETY: the name is a C string.
        let found = unsafe { dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        self.found.store(found, Ordering::Relaxed);
        found
    }
}

/// Calls libc's own function of a name: `next!("popen", (path: Path, kind: Path) -> Buffer)`; the fallback when there is
/// none.
macro_rules! next {
    ($name:literal, ($($argument:expr => $type:ty),* $(,)?) -> $result:ty, $missing:expr) => {{
        const NAME: &core::ffi::CStr = match core::ffi::CStr::from_bytes_with_nul(concat!($name, "\0").as_bytes()) {
            Ok(name) => name,
            Err(_) => panic!(),
        };
        static NEXT: crate::next::Next = crate::next::Next::new(NAME);
        let function = NEXT.function();
        if function.is_null() {
            $missing
        } else {
            let function: unsafe extern "C" fn($($type),*) -> $result = core::mem::transmute(function);
            function($($argument),*)
        }
    }};
}
pub(crate) use next;
