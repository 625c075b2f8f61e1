//! Device nodes. Only a privileged user can put one into a store, so they are
//! looked at where every system has them.

use std::path::Path;
use std::sync::Arc;

use crate::dir::{Dir, Fault};
use crate::error::Defect;
use crate::io::{Io, System};

#[test]
fn a_device_is_neither_a_file_nor_a_directory() {
    let io: Arc<dyn Io> = Arc::new(System);
    let dev = Dir::open_store(&io, Path::new("/dev")).unwrap().unwrap();
    for name in ["zero", "full", "null", "random", "tty"] {
        let read = dev.read(name, 16);
        assert!(
            matches!(&read, Err(Fault::Defect(Defect::NotAFile { file })) if file == name),
            "{name}: {read:?}"
        );
        let opened = dev.subdir(name);
        assert!(
            matches!(&opened, Err(Fault::Defect(Defect::NotADirectory { file })) if file == name),
            "{name}: {opened:?}"
        );
    }
}
